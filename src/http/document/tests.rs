use super::*;
use crate::catalog::{Change, Settings};
use crate::model::{Cpu, Firmware, Source, Vars, Why};

const SERVER: &str = "http://198.18.0.1";

fn mac() -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, 1])
}

fn profile(toml: &str, files: &[(&str, &str)]) -> Profile {
    let mut all: BTreeMap<String, String> = (files.iter())
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect();
    all.insert("profile.toml".into(), toml.into());
    crate::render::profile::read("test", all).expect("a sound profile")
}

fn catalog(profile: Option<Profile>, vars: Vars) -> Catalog {
    let mut reservation = Reservation::of("node-1".into(), Source::Api);
    reservation.mac = Some(mac());
    reservation.hostname = Some("node-1".into());
    reservation.profile = profile.as_ref().map(|p| p.name.clone());
    reservation.vars = vars;
    Catalog::new(Settings {
        profiles: profile.into_iter().map(|p| (p.name.clone(), p)).collect(),
        ..Settings::default()
    })
    .with(&Change::Create(reservation))
    .expect("fits")
}

fn vars(pairs: &[(&str, &str)]) -> Vars {
    (pairs.iter())
        .map(|(name, text)| ((*name).to_owned(), Var::Text((*text).to_owned())))
        .collect()
}

const TOML: &str = r#"
[vars]
release = "12"
[x86_64]
kernel = "debian-{{ release }}/vmlinuz"
initrd = ["a.img", "http://elsewhere.test/b.img"]
args = ["quiet", "ds=nocloud;s={{ seed_url }}"]
[documents]
user-data = "user-data.j2"
"#;

#[test]
fn a_boot_script_names_kernel_initrds_and_arguments_as_urls() {
    let catalog = catalog(Some(profile(TOML, &[("user-data.j2", "")])), Vars::new());
    let asker = Asker::find(&catalog, "52-54-00-00-00-01", SERVER).expect("known");
    let bios = asker
        .boot_script(Loader::Ipxe, Cpu::X86_64, Firmware::Bios)
        .expect("renders");
    assert!(bios.starts_with("#!ipxe\n"));
    for line in [
        "kernel --name kernel http://198.18.0.1/files/debian-12/vmlinuz quiet ds=nocloud;s=http://198.18.0.1/machines/52-54-00-00-00-01/nocloud/ || goto failed\n",
        "initrd --name initrd0 http://198.18.0.1/files/a.img || goto failed\n",
        "initrd --name initrd1 http://elsewhere.test/b.img || goto failed\n",
    ] {
        assert!(bios.contains(line), "{line} in\n{bios}");
    }
    let uefi = asker
        .boot_script(Loader::Ipxe, Cpu::X86_64, Firmware::Uefi)
        .expect("renders");
    assert!(
        uefi.contains("vmlinuz initrd=initrd0 initrd=initrd1 quiet"),
        "{uefi}"
    );
    let other = asker
        .boot_script(Loader::Ipxe, Cpu::Aarch64, Firmware::Uefi)
        .expect("renders");
    assert!(other.contains("no files for aarch64") && !other.contains("kernel --name"));
}

#[test]
fn without_a_profile_the_local_disk_is_booted_as_the_firmware_does_it() {
    let catalog = catalog(None, Vars::new());
    let asker = Asker::find(&catalog, "52-54-00-00-00-01", SERVER).expect("known");
    let bios = asker
        .boot_script(Loader::Ipxe, Cpu::X86_64, Firmware::Bios)
        .expect("renders");
    let uefi = asker
        .boot_script(Loader::Ipxe, Cpu::X86_64, Firmware::Uefi)
        .expect("renders");
    assert!(
        bios.contains("sanboot --no-describe --drive 0x80"),
        "{bios}"
    );
    assert!(
        !uefi.contains("sanboot") && uefi.ends_with("exit 0\n"),
        "{uefi}"
    );
}

#[test]
fn the_four_documents_of_nocloud_are_there_for_every_known_machine() {
    let catalog = catalog(None, vars(&[("ssh_key", "ssh-ed25519 AAAA: me")]));
    let asker = Asker::find(&catalog, "52-54-00-00-00-01", SERVER).expect("known");
    let texts = Document::NOCLOUD.map(|d| asker.document(&d).expect("renders"));
    assert!(
        texts[0].contains("local-hostname: \"node-1\"\n"),
        "{}",
        texts[0]
    );
    assert_eq!(
        texts[1],
        "#cloud-config\nssh_authorized_keys:\n  - \"ssh-ed25519 AAAA: me\"\n"
    );
    assert_eq!(texts[2], "#cloud-config\n{}\n");
    assert_eq!(
        texts[3],
        "version: 2\nethernets:\n  boot:\n    match:\n      macaddress: \"52:54:00:00:00:01\"\n    dhcp4: true\n"
    );
}

#[test]
fn the_instance_id_changes_with_the_configuration_and_only_then() {
    let id = |vars: Vars| {
        let catalog = catalog(None, vars);
        let asker = Asker::find(&catalog, "52-54-00-00-00-01", SERVER).expect("known");
        asker.document(&Document::MetaData).expect("renders")
    };
    assert_eq!(id(vars(&[("a", "1")])), id(vars(&[("a", "1")])));
    assert_ne!(id(vars(&[("a", "1")])), id(vars(&[("a", "2")])));
}

#[test]
fn a_machines_own_variables_win_over_the_profiles_and_ours_over_both() {
    let text = "{{ release }} {{ machine.mac }}";
    let profile = profile(TOML, &[("user-data.j2", text)]);
    let catalog = catalog(Some(profile), vars(&[("release", "13"), ("machine", "x")]));
    let asker = Asker::find(&catalog, "52-54-00-00-00-01", SERVER).expect("known");
    assert_eq!(
        asker.document(&Document::UserData).as_deref(),
        Ok("13 52:54:00:00:00:01")
    );
}

#[test]
fn a_variable_cannot_add_an_argument_or_a_command_to_a_boot_script() {
    let toml = "[x86_64]\nkernel = \"k\"\nargs = [\"name={{ name }}\"]\n";
    for hostile in ["a b", "a\nshell", "${net0/mac}", "a\tb"] {
        let catalog = catalog(Some(profile(toml, &[])), vars(&[("name", hostile)]));
        let asker = Asker::find(&catalog, "52-54-00-00-00-01", SERVER).expect("known");
        let refused = asker.boot_script(Loader::Ipxe, Cpu::X86_64, Firmware::Bios);
        assert!(refused.is_err(), "{hostile:?}: {refused:?}");
    }
}

#[test]
fn an_unknown_machine_has_no_documents() {
    let catalog = catalog(None, Vars::new());
    for stranger in ["02:00:00:00:00:09", "node-1", "node-2", ""] {
        let refused =
            Asker::find(&catalog, stranger, SERVER).map(|asker| asker.reservation.id.clone());
        assert_eq!(refused, Err(NoDocument::UnknownMachine(stranger.into())));
    }
}

#[test]
fn grub_is_told_the_same_with_every_word_quoted_as_it_wants_it() {
    let catalog = catalog(
        Some(profile(
            &TOML.replace("b.img", "b.img$x"),
            &[("user-data.j2", "")],
        )),
        Vars::new(),
    );
    let asker =
        Asker::find(&catalog, "52-54-00-00-00-01", "http://198.18.0.1:8080").expect("known");
    let made = asker.boot_script(Loader::Grub, Cpu::X86_64, Firmware::Uefi);
    let made = made.expect("renders");
    for line in [
        "    if linux (http,198.18.0.1:8080)/files/debian-12/vmlinuz quiet 'ds=nocloud;s=http://198.18.0.1:8080/machines/52-54-00-00-00-01/nocloud/'; then\n",
        "        if initrd (http,198.18.0.1:8080)/files/a.img '(http,elsewhere.test)/b.img$x'; then boot; fi\n",
    ] {
        assert!(made.contains(line), "{line} in\n{made}");
    }
    let local = asker.local_script(Loader::Grub, Why::Installed, Firmware::Uefi);
    assert!(local.expect("renders").ends_with("exit\n"));
}

#[test]
fn grub_is_not_sent_where_it_cannot_fetch() {
    let toml = "[x86_64]\nkernel = \"https://elsewhere.test/k\"\n";
    let catalog = catalog(Some(profile(toml, &[])), Vars::new());
    let asker = Asker::find(&catalog, "52-54-00-00-00-01", SERVER).expect("known");
    let made = asker.boot_script(Loader::Grub, Cpu::X86_64, Firmware::Uefi);
    let said = made.expect_err("refused").to_string();
    assert!(
        said.contains("GRUB fetches by http and tftp, not https://elsewhere.test/k"),
        "{said}"
    );
}

#[test]
fn a_profile_may_have_a_script_of_its_own_instead_of_files() {
    let script = "#!ipxe\nchain http://{{ name|ipxe }}/{{ arch }}-{{ firmware }}\n";
    let own = |text: &str| profile("script = \"s.j2\"\n", &[("s.j2", text)]);
    let name = vars(&[("name", "other.test")]);
    let made = |text: &str, vars: &Vars| {
        let catalog = catalog(Some(own(text)), vars.clone());
        let asker = Asker::find(&catalog, "52-54-00-00-00-01", SERVER).expect("known");
        asker.boot_script(Loader::Ipxe, Cpu::Aarch64, Firmware::Uefi)
    };
    assert_eq!(
        made(script, &name).as_deref(),
        Ok("#!ipxe\nchain http://other.test/aarch64-uefi\n")
    );
    assert!(made(script, &vars(&[("name", "a || shell")])).is_err());
    let said = made("\n#!ipxe\n", &name).expect_err("refused").to_string();
    assert!(
        said.contains("template s.j2 line 1: wanted #!ipxe on the first line"),
        "{said}"
    );
}

#[test]
fn an_argument_that_comes_to_nothing_is_left_out_and_a_console_suits_the_processor() {
    let files = "kernel = \"k\"\nargs = [\"{% if x is defined %}x={{ x }}{% endif %}\", \"console={{ console }}\"]\n";
    let toml = format!("min_ram = 2048\n[x86_64]\n{files}[aarch64]\n{files}");
    let line = |own: Vars, cpu| {
        let catalog = catalog(Some(profile(&toml, &[])), own);
        let asker = Asker::find(&catalog, "52-54-00-00-00-01", SERVER).expect("known");
        let script = asker
            .boot_script(Loader::Ipxe, cpu, Firmware::Bios)
            .expect("renders");
        assert!(
            script.contains("iseq ${mib} 1920 || goto count\n"),
            "{script}"
        );
        let line = script
            .lines()
            .find(|line| line.starts_with("kernel"))
            .map(str::to_owned);
        line.expect("a kernel")
            .replace("kernel --name kernel http://198.18.0.1/files/k ", "")
    };
    assert_eq!(
        line(Vars::new(), Cpu::X86_64),
        "console=ttyS0,115200n8 || goto failed"
    );
    assert_eq!(
        line(Vars::new(), Cpu::Aarch64),
        "console=ttyAMA0,115200n8 || goto failed"
    );
    let own = vars(&[("x", "1"), ("console", "tty0")]);
    assert_eq!(line(own, Cpu::X86_64), "x=1 console=tty0 || goto failed");
}
