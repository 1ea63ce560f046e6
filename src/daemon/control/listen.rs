//! The daemon's end of the control socket.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::future::Future;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{Gid, Group, Uid, User};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, UCred};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};

use super::Side;
use super::message::{
    Answer, ControlError, Line, Opening, Progress, Question, Reply, Request, VERSION,
};

/// The group whose members may use the control sockets besides root.
pub const GROUP: &str = "myclerk";

const MAX_REQUEST: u64 = 64 * 1024;
const MAX_ANSWER: u64 = 1024;
const MAX_CONNECTIONS: usize = 64;
const FIRST_LINE: Duration = Duration::from_secs(10);

/// What a daemon does with requests; implemented by the server and by the client.
pub trait ControlHandler {
    /// Performs one request. It runs beside other requests on the same thread, so no borrow may be
    /// held over an await. When the asker goes away the future is *not* dropped: a handler that
    /// should stop then watches [`Conversation::gone`].
    ///
    /// # Errors
    /// Whatever the person who asked should read.
    fn handle(
        &self,
        request: Request,
        asker: &Conversation,
    ) -> impl Future<Output = Result<Reply, ControlError>>;
}

/// The asker of one request, while it is being handled.
pub struct Conversation {
    lines: mpsc::UnboundedSender<Line>,
    answers: tokio::sync::Mutex<mpsc::Receiver<bool>>,
    gone: watch::Receiver<bool>,
    /// Of nobody, who stays.
    _here: Option<watch::Sender<bool>>,
}

impl Conversation {
    /// Nobody, who hears nothing and stays to the end: for what a daemon does by itself.
    pub fn nobody() -> Self {
        let (here, gone) = watch::channel(false);
        Self {
            lines: mpsc::unbounded_channel().0,
            answers: tokio::sync::Mutex::new(mpsc::channel(1).1),
            gone,
            _here: Some(here),
        }
    }

    /// Tells the asker something; lost when it is gone.
    pub fn progress(&self, progress: Progress) {
        let _ = self.lines.send(Line::Progress(progress));
    }

    /// Tells the asker a step in words.
    pub fn step(&self, text: impl Into<String>) {
        self.progress(Progress::Step(text.into()));
    }

    /// Asks the person at the terminal; `None` when the asker went away without an answer.
    pub async fn ask(&self, question: Question) -> Option<bool> {
        let mut answers = self.answers.lock().await;
        let _ = self.lines.send(Line::Question(question));
        answers.recv().await
    }

    /// Resolves when the asker has closed its end.
    pub async fn gone(&self) {
        let mut gone = self.gone.clone();
        // A dropped sender means that the reading task ended, which it does at the end of input.
        let _ = gone.wait_for(|gone| *gone).await;
    }
}

/// Why a control socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon of this side runs on the same run directory.
    #[error("another `myclerk {}` is already running on {}", side.subcommand(), path.display())]
    Running {
        /// Which side.
        side: Side,
        /// Its socket.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A bound control socket; the socket file goes away with it.
pub struct ControlListener {
    listener: UnixListener,
    path: PathBuf,
    _lock: Flock<File>,
}

impl Drop for ControlListener {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl ControlListener {
    /// Opens the socket of one side in the run directory, which is made if it is absent. A socket
    /// file that a dead daemon left behind is replaced. Must be called inside the runtime.
    ///
    /// # Errors
    /// [`BindError::Running`] when a daemon of this side holds the lock.
    pub fn bind(run_dir: &Path, side: Side) -> Result<Self, BindError> {
        let path = side.socket(run_dir);
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| BindError::Io { what, path, source }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(run_dir)
            .map_err(io("make the directory", run_dir))?;
        let lock_path = side.lock(run_dir);
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io("open", &lock_path))?;
        let lock = match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, nix::Error::EWOULDBLOCK)) => return Err(BindError::Running { side, path }),
            Err((_, errno)) => return Err(io("lock", &lock_path)(errno.into())),
        };
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io("replace", &path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path).map_err(io("listen on", &path))?;
        open_to_group(&path).map_err(io("set the permissions of", &path))?;
        Ok(Self {
            listener,
            path,
            _lock: lock,
        })
    }

    /// Answers requests for ever, or until accepting fails for good. Must run inside a `LocalSet`.
    ///
    /// # Errors
    /// The error of `accept` when it is not a passing one.
    pub async fn serve<H: ControlHandler + 'static>(&self, handler: Rc<H>) -> io::Result<()> {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) if is_passing(&error) => {
                    tracing::warn!(%error, "control socket: accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                continue;
            };
            let handler = Rc::clone(&handler);
            tokio::task::spawn_local(async move {
                converse(stream, &*handler).await;
                drop(place);
            });
        }
    }
}

fn open_to_group(path: &Path) -> io::Result<()> {
    if let Ok(Some(group)) = Group::from_name(GROUP)
        && Uid::effective().is_root()
    {
        nix::unistd::chown(path, None, Some(group.gid))?;
    }
    std::fs::set_permissions(path, Permissions::from_mode(0o660))
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::ECONNABORTED)
    )
}

/// Root, the user the daemon runs as, and members of the group.
fn may_ask(peer: UCred) -> bool {
    let uid = Uid::from_raw(peer.uid());
    if uid.is_root() || uid == Uid::effective() {
        return true;
    }
    let Ok(Some(group)) = Group::from_name(GROUP) else {
        return false;
    };
    let user = User::from_uid(uid).ok().flatten();
    is_in(&group, Gid::from_raw(peer.gid()), user.as_ref())
}

/// The credentials of a socket name only the primary group; the others come from the database.
fn is_in(group: &Group, primary: Gid, user: Option<&User>) -> bool {
    primary == group.gid
        || user.is_some_and(|user| user.gid == group.gid || group.mem.contains(&user.name))
}

async fn converse(stream: UnixStream, handler: &impl ControlHandler) {
    let peer = stream.peer_cred();
    let (read, mut write) = stream.into_split();
    let last = match peer {
        Ok(peer) if may_ask(peer) => handle(read, &mut write, handler).await,
        Ok(peer) => {
            tracing::warn!(uid = peer.uid(), "control socket: refused");
            Some(Err(ControlError::refused(format!(
                "user {} may not do this",
                peer.uid()
            ))
            .because(format!("it is neither root nor in the group {GROUP}"))
            .mend(format!(
                "sudo usermod -aG {GROUP} \"$USER\"   # then log in again"
            ))))
        }
        Err(_) => None,
    };
    let line = match last {
        Some(Ok(reply)) => Line::Reply(Box::new(reply)),
        Some(Err(error)) => Line::Error(error),
        None => return,
    };
    // The asker may be gone; nobody is left to tell then.
    let _ = send(&mut write, &line).await;
}

async fn handle(
    read: OwnedReadHalf,
    write: &mut OwnedWriteHalf,
    handler: &impl ControlHandler,
) -> Option<Result<Reply, ControlError>> {
    let mut read = BufReader::new(read);
    let opening = tokio::time::timeout(FIRST_LINE, read_line(&mut read, MAX_REQUEST)).await;
    let request = match opening {
        Ok(Ok(Some(line))) => match understand(&line) {
            Ok(request) => request,
            Err(error) => return Some(Err(error)),
        },
        Ok(Ok(None) | Err(_)) | Err(_) => return None,
    };
    let (lines, mut outgoing) = mpsc::unbounded_channel();
    let (answers_in, answers) = mpsc::channel(1);
    let (gone_in, gone) = watch::channel(false);
    let reader = tokio::task::spawn_local(async move {
        while let Ok(Some(line)) = read_line(&mut read, MAX_ANSWER).await {
            let Ok(answer) = serde_json::from_str::<Answer>(&line) else {
                break;
            };
            if answers_in.send(answer.yes).await.is_err() {
                break;
            }
        }
        // Nobody listens any more when the request is done.
        let _ = gone_in.send(true);
    });
    let conversation = Conversation {
        lines,
        answers: tokio::sync::Mutex::new(answers),
        gone,
        _here: None,
    };
    let mut work = std::pin::pin!(handler.handle(request, &conversation));
    let result = loop {
        tokio::select! {
            biased;
            Some(line) = outgoing.recv() => {
                // A closed connection is noticed by the reader.
                let _ = send(write, &line).await;
            }
            result = &mut work => break result,
        }
    };
    while let Ok(line) = outgoing.try_recv() {
        let _ = send(write, &line).await;
    }
    reader.abort();
    Some(result)
}

fn understand(line: &str) -> Result<Request, ControlError> {
    let other = |what: String| {
        ControlError::usage("the running daemon does not understand this request")
            .because(what)
            .mend("restart the daemon, so that it is of the same version as this program")
    };
    let opening: Opening = serde_json::from_str(line).map_err(|error| other(error.to_string()))?;
    if opening.version != VERSION {
        return Err(other(format!(
            "it speaks version {VERSION} of the control protocol, the request is of version {}",
            opening.version
        )));
    }
    serde_json::from_value(opening.request).map_err(|error| other(error.to_string()))
}

async fn send(write: &mut OwnedWriteHalf, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    write.write_all(&text).await
}

/// One line without its end; `None` at the end of input.
async fn read_line(read: &mut BufReader<OwnedReadHalf>, max: u64) -> io::Result<Option<String>> {
    let mut line = String::new();
    let taken = read.take(max).read_line(&mut line).await?;
    if line.pop() == Some('\n') {
        Ok(Some(line))
    } else if taken == 0 {
        Ok(None)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_known_by_primary_group_or_by_the_group_s_list() {
        let group = Group {
            name: GROUP.to_owned(),
            passwd: std::ffi::CString::default(),
            gid: Gid::from_raw(990),
            mem: vec!["ann".to_owned()],
        };
        let Ok(Some(root)) = User::from_uid(Uid::from_raw(0)) else {
            panic!("every system has a root");
        };
        let user = |name: &str, gid| User {
            name: name.to_owned(),
            gid: Gid::from_raw(gid),
            ..root.clone()
        };
        let (own, other) = (Gid::from_raw(990), Gid::from_raw(100));
        assert!(is_in(&group, own, None));
        assert!(is_in(&group, other, Some(&user("ann", 100))));
        assert!(is_in(&group, other, Some(&user("bob", 990))));
        assert!(!is_in(&group, other, Some(&user("bob", 100))));
        assert!(!is_in(&group, other, None));
    }
}
