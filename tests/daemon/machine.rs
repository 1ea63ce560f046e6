//! What a machine runs: daemons, invites, and commands that are still waiting.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

pub(crate) use crate::home::{Home as Machine, Run};

/// Nothing here takes so long; a test that waits for it has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks until there is something to see.
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Machine {
    /// Starts a command that goes on, its log in a file.
    fn start(&self, args: &[&str]) -> Daemon {
        self.start_as(self.command(args), args[0])
    }

    pub(crate) fn start_as(&self, mut command: Command, name: &str) -> Daemon {
        let log = self.path().join(format!("{name}.log"));
        let child = command
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Daemon { child, log }
    }

    pub(crate) fn serve(&self) -> Daemon {
        let daemon = self.start(&["serve", "--listen", "127.0.0.1:0"]);
        daemon.says("server started");
        daemon
    }

    /// A server that may have so many open files and no more.
    pub(crate) fn serve_with_files(&self, limit: u32) -> Daemon {
        self.serve_under(&format!("ulimit -n {limit}"))
    }

    /// A server that starts with a low limit, which it may raise.
    pub(crate) fn serve_with_soft_files(&self, limit: u32) -> Daemon {
        self.serve_under(&format!("ulimit -S -n {limit}"))
    }

    fn serve_under(&self, limit: &str) -> Daemon {
        let plain = self.command(&["serve", "--listen", "127.0.0.1:0"]);
        let mut limited = Command::new("sh");
        limited
            .arg("-c")
            .arg(format!("{limit} && exec \"$0\" \"$@\""))
            .arg(plain.get_program())
            .args(plain.get_args())
            .stdin(Stdio::null());
        for (name, value) in plain.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        let daemon = self.start_as(limited, "serve");
        daemon.says("server started");
        daemon
    }

    pub(crate) fn client(&self) -> Daemon {
        let daemon = self.start(&["client"]);
        daemon.says("client started");
        daemon
    }

    /// An invite that waits for its node; the first line is the invitation.
    pub(crate) fn invite(&self, args: &[&str]) -> Invite {
        let args = [&["invite", "--json"], args].concat();
        let mut child = self
            .command(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut first = String::new();
        out.read_line(&mut first).unwrap();
        let first: Value = serde_json::from_str(&first).unwrap();
        Invite {
            token: first["invited"]["token"].as_str().unwrap().to_owned(),
            child,
            input,
            out,
        }
    }

    /// Starts a command that waits for something.
    pub(crate) fn begin(&self, args: &[&str]) -> Pending {
        let mut child = self
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let err = Arc::new(Mutex::new(String::new()));
        let said = Arc::clone(&err);
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut said = said.lock().unwrap();
                said.push_str(&line);
                said.push('\n');
            }
        });
        Pending {
            child,
            err,
            reader: Some(reader),
        }
    }

    /// A machine that has joined the family of this one, whose server runs.
    pub(crate) fn admit(&self, name: &str) -> Self {
        let machine = Self::new();
        let invite = self.invite(&["--yes"]);
        let joined = machine.run(&["join", &invite.token, "--name", name]);
        assert_eq!(joined.code, 0, "{joined:?}");
        assert_eq!(invite.end().code, 0);
        machine
    }
}

/// A command that waits for something.
pub(crate) struct Pending {
    child: Child,
    err: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Pending {
    /// Waits until it has told this.
    pub(crate) fn says(&self, text: &str) {
        eventually(&format!("{text:?}, only {:?}", self.err.lock()), || {
            self.err.lock().unwrap().contains(text).then_some(())
        });
    }

    pub(crate) fn interrupt(&self) {
        interrupt(&self.child);
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Run {
        let mut out = String::new();
        let mut stdout = self.child.stdout.take().unwrap();
        stdout.read_to_string(&mut out).unwrap();
        let code = wait(&mut self.child).code().unwrap_or(-1);
        self.reader.take().unwrap().join().unwrap();
        let err = std::mem::take(&mut *self.err.lock().unwrap());
        Run { code, out, err }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Invite {
    pub(crate) token: String,
    child: Child,
    input: Option<ChildStdin>,
    out: BufReader<std::process::ChildStdout>,
}

impl Invite {
    pub(crate) fn answer(&mut self, text: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until the person is asked.
    pub(crate) fn asked(&mut self) {
        let mut said = Vec::new();
        let mut bytes = BufReader::new(self.child.stderr.as_mut().unwrap()).bytes();
        while !said.ends_with(b"[y/N] ") {
            said.push(bytes.next().unwrap().unwrap());
        }
    }

    pub(crate) fn interrupt(&self) {
        interrupt(&self.child);
    }

    /// Waits for its end and what it printed after the invitation.
    pub(crate) fn end(mut self) -> Run {
        let (mut out, mut err) = (String::new(), String::new());
        self.out.read_to_string(&mut out).unwrap();
        let mut errors = self.child.stderr.take().unwrap();
        errors.read_to_string(&mut err).unwrap();
        let code = wait(&mut self.child).code().unwrap_or(-1);
        Run { code, out, err }
    }
}

impl Drop for Invite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Lines of the log that contain the text.
    pub(crate) fn lines(&self, text: &str) -> usize {
        self.log()
            .lines()
            .filter(|line| line.contains(text))
            .count()
    }

    /// Waits until the log has it.
    pub(crate) fn says(&self, text: &str) {
        eventually(&format!("{text:?} in\n{}", self.log()), || {
            (self.lines(text) > 0).then_some(())
        });
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let log = self.log();
        let after = log.split("listen=").nth(1).unwrap();
        let digits = |c: char| c.is_ascii_digit() || c == '.' || c == ':';
        let start = after.trim_start_matches('"');
        let end = start.find(|c| !digits(c)).unwrap_or(start.len());
        start[..end].parse().unwrap()
    }

    pub(crate) fn open_files(&self) -> usize {
        let fds = format!("/proc/{}/fd", self.child.id());
        fs::read_dir(fds).unwrap().count()
    }

    pub(crate) fn threads(&self) -> usize {
        let tasks = format!("/proc/{}/task", self.child.id());
        fs::read_dir(tasks).unwrap().count()
    }

    /// Resident memory in KiB.
    pub(crate) fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap()
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; `None` when a signal was it.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        wait(&mut self.child).code()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Ctrl-C, and what came of it.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn stop(&mut self) -> Option<i32> {
        interrupt(&self.child);
        wait(&mut self.child).code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn interrupt(child: &Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
}

pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    eventually("the process ends", || child.try_wait().unwrap())
}
