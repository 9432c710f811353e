//! A way to a server that can be shut for one client while others go on.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Passes connections on while it is open.
pub(crate) struct Gate {
    address: SocketAddr,
    /// What goes through; `None` while it is shut.
    streams: Arc<Mutex<Option<Vec<TcpStream>>>>,
}

impl Gate {
    /// A gate before the server at `http://host:port`.
    pub(crate) fn to(server: &str) -> Self {
        let server = server.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let streams = Arc::new(Mutex::new(Some(Vec::new())));
        let through = Arc::clone(&streams);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if let Some(streams) = &mut *through.lock().unwrap()
                    && let Ok(server) = TcpStream::connect(&server)
                {
                    pass(&client, &server, streams).unwrap();
                }
            }
        });
        Self { address, streams }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks what goes through, and lets nothing through until it is open again.
    pub(crate) fn shut(&self) {
        for stream in self.streams.lock().unwrap().take().unwrap_or_default() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn open(&self) {
        *self.streams.lock().unwrap() = Some(Vec::new());
    }
}

fn pass(client: &TcpStream, server: &TcpStream, streams: &mut Vec<TcpStream>) -> io::Result<()> {
    for (from, to) in [(client, server), (server, client)] {
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        streams.push(from.try_clone()?);
        std::thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(())
}
