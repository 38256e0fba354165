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
    /// On loopback, without TLS.
    Tcp(TcpListener),
    Tls(TcpListener),
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
/// Members of `group` may open it, if there is one.
pub async fn bind(listen: &GrpcListen, group: Option<&str>) -> io::Result<Bound> {
    match listen {
        GrpcListen::Tcp(address) => Ok(Bound::Tcp(TcpListener::bind(address).await?)),
        GrpcListen::Tls(address) => Ok(Bound::Tls(TcpListener::bind(address).await?)),
        GrpcListen::Unix(path) => {
            let listener = bind_unix(path).await?;
            let file = SocketFile(path.clone());
            if let Some(group) = group {
                open_to(path, group)?;
            }
            Ok(Bound::Unix(listener, file))
        }
    }
}

/// Lets the members of a group use the socket.
fn open_to(path: &Path, group: &str) -> io::Result<()> {
    let gid = crate::net::accounts::group(group).ok_or_else(|| {
        let text = format!("grpc.socket_group: there is no group {group}");
        io::Error::new(io::ErrorKind::NotFound, text)
    })?;
    std::os::unix::fs::chown(path, None, Some(gid.as_raw())).map_err(|error| {
        let text = format!(
            "grpc.socket_group: cannot give the socket to {group}: {error}; the service's user must be a member"
        );
        io::Error::new(error.kind(), text)
    })?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660))
}

impl Bound {
    /// Where it is, as the log says it.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.to_string()),
            Self::Tls(listener) => listener
                .local_addr()
                .map(|address| format!("tls:{address}")),
            Self::Unix(_, file) => Ok(format!("unix:{}", file.0.display())),
        }
    }
}

async fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|directory| !directory.exists()) {
        std::fs::create_dir_all(directory)?;
        // The socket itself says who may use it.
        std::fs::set_permissions(directory, Permissions::from_mode(0o755))?;
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
