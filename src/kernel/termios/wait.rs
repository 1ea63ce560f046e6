//! Getting a thread out of `TIOCMIWAIT`, which nothing but a change of a line or a signal ends: not
//! even a hang-up (`drivers/tty/serial/serial_core.c`, `uart_wait_modem_status`).

use core::mem::MaybeUninit;
use core::time::Duration;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use nix::errno::Errno;

/// A signal that comes between the look at [`State`] and the ioctl is lost; so long until the next.
const AGAIN: Duration = Duration::from_millis(1);

/// Lets another thread end a wait of [`super::Tty::wait_change`].
#[derive(Debug, Default)]
pub struct ChangeWait {
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The thread that waits.
    waiting: Option<libc::pid_t>,
    /// Waits that have begun.
    begun: u64,
    /// No more waits.
    stopped: bool,
}

impl ChangeWait {
    /// Ends the wait that is going on, if there is one. Another may begin. Blocks for a moment.
    pub fn interrupt(&self) {
        self.end(self.state());
    }

    /// Ends the wait that is going on and every later one at once. Blocks for a moment.
    pub fn stop(&self) {
        let mut state = self.state();
        state.stopped = true;
        self.end(state);
    }

    /// Whether [`ChangeWait::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.state().stopped
    }

    pub(super) fn during(&self, wait: impl FnOnce() -> Result<(), Errno>) -> Result<(), Errno> {
        let signal = prepared()?;
        {
            let mut state = self.state();
            if state.stopped {
                return Err(Errno::EINTR);
            }
            state.begun += 1;
            state.waiting = Some(nix::unistd::gettid().as_raw());
        }
        unblock(signal);
        let result = wait();
        self.state().waiting = None;
        self.left.notify_all();
        result
    }

    fn end<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        let this = state.begun;
        while let Some(thread) = state.waiting
            && state.begun == this
        {
            interrupt_thread(thread);
            state = self
                .left
                .wait_timeout(state, AGAIN)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signal that interrupts, once it is harmless: the first of the real-time signals, which nothing
/// else here uses.
fn prepared() -> Result<i32, Errno> {
    extern "C" fn nothing(_: i32) {}

    static READY: OnceLock<Result<i32, Errno>> = OnceLock::new();
    *READY.get_or_init(|| {
        let signal = libc::SIGRTMIN();
        let mut action = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: `sigaction` is plain data, for which zero is valid: an empty mask and no flags, above
        // all not SA_RESTART. The handler does nothing, which every thread may do at any time.
        let result = unsafe {
            (*action.as_mut_ptr()).sa_sigaction = nothing as extern "C" fn(i32) as usize;
            libc::sigaction(signal, action.as_ptr(), core::ptr::null_mut())
        };
        Errno::result(result).map(|_| signal)
    })
}

fn unblock(signal: i32) {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: the set is initialised before it is used, and changes the mask of this thread only.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), core::ptr::null_mut());
    }
}

fn interrupt_thread(thread: libc::pid_t) {
    let process = nix::unistd::getpid().as_raw();
    // SAFETY: a signal whose handler does nothing, to a thread of this process.
    unsafe {
        libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGRTMIN());
    }
}
