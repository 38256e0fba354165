//! Where gRPC listens. In: the places of the configuration. Out: connections, from all of them in one stream. It refuses a socket
//! file that somebody listens on, and a file that is no socket.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use crate::config::GrpcListen;

/// A socket that waits to be served on.
pub enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a socket; it is removed when the service stops, or does not come to start.
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It is replaced at the next start where it stays.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds; a socket file that nobody listens on is left from a crash, and replaced.
pub async fn bind(listen: &GrpcListen) -> io::Result<Bound> {
    match listen {
        GrpcListen::Tcp(address) => Ok(Bound::Tcp(TcpListener::bind(address).await?)),
        GrpcListen::Unix(path) => Ok(Bound::Unix(
            bind_unix(path).await?,
            SocketFile(path.clone()),
        )),
    }
}

impl Bound {
    /// Where it is, as the log says it.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.to_string()),
            Self::Unix(_, file) => Ok(format!("unix:{}", file.0.display())),
        }
    }
}

async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            if tokio::net::UnixStream::connect(path).await.is_ok() {
                return Err(error);
            }
            if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "a file that is no socket is there; remove it, or name another path",
                ));
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)?
        }
        bound => bound?,
    };
    // Whoever can write here can have any machine install anything.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}
