use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

/// A terminal and the end that a program would have of it.
fn pty() -> (OwnedFd, PathBuf) {
    let pty = nix::pty::openpty(None, None).expect("a pty");
    let path = nix::unistd::ttyname(&pty.slave).expect("its name");
    (pty.master, path)
}

fn wait_readable(fd: &impl AsFd) {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(10_000_u16)), Ok(1));
}

#[test]
fn any_speed_and_every_size_is_kept() {
    let (_master, path) = pty();
    let tty = Tty::open(&path).expect("opens");
    let mut wanted = Termios::raw(250_000);
    wanted.c_cflag |= libc::CSTOPB | libc::CRTSCTS;
    tty.set_settings(&wanted).expect("is taken");
    let actual = tty.settings().expect("settings");
    assert_eq!((actual.c_ospeed, actual.c_ispeed), (250_000, 250_000));
    assert_eq!(
        actual.c_cflag & (libc::CSTOPB | libc::CRTSCTS),
        libc::CSTOPB | libc::CRTSCTS
    );
    assert_eq!((actual.c_lflag, actual.c_oflag), (0, 0));
}

#[test]
fn bytes_pass_as_they_are_and_nothing_waits() {
    let (master, path) = pty();
    let tty = Tty::open(&path).expect("opens");
    tty.set_settings(&Termios::raw(9600)).expect("is taken");
    let mut buffer = [0; 16];
    assert_eq!(tty.read(&mut buffer), Err(Errno::EAGAIN));
    nix::unistd::write(&master, b"a\r\n\x03\x04").expect("is written");
    wait_readable(&tty);
    assert_eq!(tty.read(&mut buffer), Ok(5));
    assert_eq!(&buffer[..5], b"a\r\n\x03\x04");
    assert_eq!(tty.write(b"\n\x00"), Ok(2));
    wait_readable(&master);
    assert_eq!(nix::unistd::read(&master, &mut buffer), Ok(2));
    assert_eq!(&buffer[..2], b"\n\x00");
}

#[test]
fn what_was_received_can_be_thrown_away() {
    let (master, path) = pty();
    let tty = Tty::open(&path).expect("opens");
    tty.set_settings(&Termios::raw(9600)).expect("is taken");
    nix::unistd::write(&master, b"gone").expect("is written");
    wait_readable(&tty);
    tty.flush(Queue::Input).expect("is flushed");
    assert_eq!(tty.read(&mut [0; 16]), Err(Errno::EAGAIN));
    tty.drain().expect("is drained");
    assert_eq!(tty.unsent(), Ok(0));
    tty.flush(Queue::Both).expect("is flushed");
}

#[test]
fn a_terminal_without_a_line_to_a_modem_says_so() {
    let (_master, path) = pty();
    let tty = Tty::open(&path).expect("opens");
    let refused = |result: Result<(), Errno>| {
        let errno = result.expect_err("a pty has none");
        assert!(matches!(errno, Errno::ENOTTY | Errno::EINVAL), "{errno}");
    };
    refused(tty.lines().map(drop));
    refused(tty.raise(DTR));
    refused(tty.lower(RTS));
    refused(tty.set_lines(0));
    refused(tty.counters().map(drop));
    refused(tty.rs485().map(drop));
    refused(tty.set_rs485(Rs485::default()));
    refused(tty.wait_change(CTS, &ChangeWait::default()));
}

#[test]
fn after_a_hang_up_the_settings_cannot_be_read() {
    let (master, path) = pty();
    let tty = Tty::open(&path).expect("opens");
    tty.set_settings(&Termios::raw(9600)).expect("is taken");
    drop(master);
    let read = tty.read(&mut [0; 16]);
    assert!(matches!(read, Ok(0) | Err(Errno::EIO)), "{read:?}");
    assert_eq!(tty.write(b"x"), Err(Errno::EIO));
}

#[test]
fn what_is_no_terminal_is_not_opened() {
    assert!(Tty::open(Path::new("/dev/null")).is_err());
    assert!(Tty::open(Path::new("/dev/no-such-terminal")).is_err());
}

#[test]
fn an_exclusive_terminal_is_given_back() {
    let (_master, path) = pty();
    let tty = Tty::open(&path).expect("opens");
    tty.set_exclusive(true).expect("is exclusive");
    tty.set_exclusive(false).expect("is not");
    assert!(fs::File::open(&path).is_ok());
}

#[test]
fn a_thread_is_got_out_of_a_call_that_nothing_else_ends() {
    let wait = Arc::new(ChangeWait::default());
    let (began, begun) = std::sync::mpsc::channel();
    let waiter = thread::spawn({
        let wait = Arc::clone(&wait);
        move || {
            let mut results = Vec::new();
            while !wait.is_stopped() {
                let result = wait.during(|| {
                    let _ = began.send(());
                    // SAFETY: no argument; it ends with EINTR.
                    Errno::result(unsafe { libc::pause() }).map(drop)
                });
                results.push(result);
            }
            results
        }
    });
    begun.recv().expect("it began");
    wait.interrupt();
    begun.recv().expect("it began again");
    wait.stop();
    let results = waiter.join().expect("it ended");
    assert_eq!(results, [Err(Errno::EINTR), Err(Errno::EINTR)]);
    assert_eq!(wait.during(|| Ok(())), Err(Errno::EINTR));
    wait.interrupt();
}
