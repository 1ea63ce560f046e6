//! A way between two machines that breaks on command.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Passes connections on to a server.
pub(crate) struct Link {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    server: SocketAddr,
    open: Vec<Pair>,
    /// New connections are closed at once.
    down: bool,
}

struct Pair {
    near: TcpStream,
    far: TcpStream,
}

impl Link {
    /// A way to the server there.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Mutex::new(Shared {
            server,
            open: Vec::new(),
            down: false,
        }));
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for near in listener.incoming() {
                let near = near.unwrap();
                let mut shared = lock(&of_thread);
                if shared.down {
                    continue;
                }
                let Ok(far) = TcpStream::connect(shared.server) else {
                    continue;
                };
                pass(&near, &far);
                pass(&far, &near);
                shared.open.push(Pair { near, far });
            }
        });
        Self { address, shared }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Both machines see the end of every connection. New ones pass.
    pub(crate) fn cut(&self) {
        for Pair { near, far } in lock(&self.shared).open.drain(..) {
            let _ = near.shutdown(Shutdown::Both);
            let _ = far.shutdown(Shutdown::Both);
        }
    }

    /// The machine that dialled sees the end of its connections, the server hears nothing more.
    pub(crate) fn leave_half_open(&self) {
        for Pair { near, .. } in &lock(&self.shared).open {
            let _ = near.shutdown(Shutdown::Both);
        }
    }

    /// Cut until [`Link::mend`].
    pub(crate) fn take_down(&self) {
        lock(&self.shared).down = true;
        self.cut();
    }

    /// New connections pass again, to the server there.
    pub(crate) fn mend(&self, server: SocketAddr) {
        let mut shared = lock(&self.shared);
        (shared.server, shared.down) = (server, false);
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes bytes on in one direction; an end is not passed on.
fn pass(from: &TcpStream, to: &TcpStream) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let mut buffer = vec![0; 65536];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
    });
}
