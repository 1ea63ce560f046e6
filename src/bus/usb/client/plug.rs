//! One port's socket with the two tasks that read and write it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::endpoints::Endpoints;
use super::socket::{FromKernel, GATHER, Message, ReadError, Reader, Sink, Source};

/// How long the kernel may take to close its end after a detach.
const FAREWELL: Duration = Duration::from_secs(5);
/// Messages read ahead of what is being dealt with.
const READ_AHEAD: usize = 16;

/// Our end of the socket of one port.
pub(super) struct Plug {
    pub(super) commands: mpsc::Receiver<Result<FromKernel, ReadError>>,
    /// Bounded by the URBs that the kernel has outstanding.
    pub(super) answers: mpsc::UnboundedSender<Message>,
    _tasks: (Guard, Guard),
}

impl Plug {
    pub(super) fn new(socket: UnixStream, endpoints: &Rc<RefCell<Endpoints>>) -> Self {
        let (source, sink) = socket.into_split();
        let (forward, commands) = mpsc::channel(READ_AHEAD);
        let (answers, to_write) = mpsc::unbounded_channel();
        let reader = Reader::new(source, Rc::clone(endpoints));
        let reader = tokio::task::spawn_local(read(reader, forward));
        let writer = tokio::task::spawn_local(write(sink, to_write));
        Self {
            commands,
            answers,
            _tasks: (Guard(reader.abort_handle()), Guard(writer.abort_handle())),
        }
    }

    /// Reads the kernel's last words, or it would wait for us, and closes our end. False when the
    /// kernel did not close its own in time.
    pub(super) async fn pull(mut self) -> bool {
        let quiet = async { while self.commands.recv().await.is_some() {} };
        timeout(FAREWELL, quiet).await.is_ok()
    }
}

/// Ends a task with its owner, and with it one half of our end of the socket.
struct Guard(AbortHandle);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The one long-lived reader of the socket; it ends with the stream.
async fn read<S: Source>(
    mut reader: Reader<S>,
    forward: mpsc::Sender<Result<FromKernel, ReadError>>,
) {
    loop {
        let message = match reader.next().await {
            Ok(Some(message)) => Ok(message),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let last = message.is_err();
        if forward.send(message).await.is_err() || last {
            return;
        }
    }
}

/// Writes what the kernel is to be told, as much as there is in one call. A kernel that does not
/// read holds up nothing else.
async fn write<S: Sink>(mut sink: S, mut answers: mpsc::UnboundedReceiver<Message>) {
    let mut batch = Vec::with_capacity(GATHER);
    while answers.recv_many(&mut batch, GATHER).await > 0 {
        batch = match sink.write(batch).await {
            Ok(emptied) => emptied,
            Err(error) => {
                tracing::debug!(%error, "the kernel's socket failed");
                return;
            }
        };
    }
}
