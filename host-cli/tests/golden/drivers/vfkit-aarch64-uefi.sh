vfkit \
  --cpus 2 \
  --memory 2048 \
  --bootloader efi,variable-store=/s/vm/node-1/vars.fd,create \
  --restful-uri unix:///r/1a2b3c4d.qmp \
  --device virtio-blk,path=/s/vm/node-1/disk.raw \
  --device virtio-net,unixSocketPath=/r/s-1a2b3c4d,mac=52:54:00:00:00:01 \
  --device virtio-rng \
  --device virtio-serial,logFilePath=/s/vm/node-1/console.log
