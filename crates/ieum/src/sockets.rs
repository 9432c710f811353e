//! What the node takes of the operating system: addresses to listen at, and files.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpSocket;

/// How many connections may wait to be accepted; the kernel's own bound is below it. One that finds no place tries again after a second, and
/// ten thousand come at once when a network comes back.
pub(crate) const BACKLOG: u32 = 65_535;

/// A socket at an address, which does not listen yet.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // The address is free again as soon as the process before is gone.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Files beside the clients' sockets: log, view, snapshots, the operator's socket.
const OWN_FILES: u64 = 500;

/// Each connection takes a file, and what a shell gives by itself is often 1,024.
pub(crate) fn raise_files(connections: usize) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OWN_FILES);
    match raised {
        Ok(files) if files >= needed => {}
        Ok(files) => tracing::warn!(
            "this process may open {files} files, too few for [limits] connections = {connections}: raise the limit (ulimit -Hn, \
             LimitNOFILE=) or lower the setting"
        ),
        Err(error) => tracing::warn!(%error, "the limit of open files could not be raised"),
    }
}
