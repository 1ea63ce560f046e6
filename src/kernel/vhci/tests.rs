use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use tempfile::TempDir;

use super::*;

const HEAD: &str = "hub port sta spd dev      sockfd local_busid\n";

/// Two controllers with two ports of each kind, as the kernel prints them; `used` are in use.
fn tree(used: &[u32]) -> TempDir {
    let root = tempfile::tempdir().expect("a temporary directory");
    let directory = root.path().join("vhci_hcd.0");
    fs::create_dir(&directory).expect("a directory");
    for (name, first) in [("status", 0), ("status.1", 4)] {
        let mut text = HEAD.to_owned();
        for port in first..first + 4 {
            let hub = if port < first + 2 { "hs" } else { "ss" };
            let row = if used.contains(&port) {
                "006 003 00010002 000007 3-1"
            } else {
                "004 000 00000000 000000 0-0"
            };
            writeln!(text, "{hub}  {port:04} {row}").expect("a string takes everything");
        }
        fs::write(directory.join(name), text).expect("a status file");
    }
    for (name, text) in [("nports", "8\n"), ("attach", ""), ("detach", "")] {
        fs::write(directory.join(name), text).expect("a file");
    }
    root
}

fn written(root: &TempDir, name: &str) -> String {
    fs::read_to_string(root.path().join("vhci_hcd.0").join(name)).expect("a written file")
}

/// Sysfs, but for what comes of an attach.
#[derive(Debug)]
struct Answering {
    sysfs: Sysfs,
    generation: Rc<Cell<u64>>,
    /// Port and speed of every attempt.
    asked: Rc<RefCell<Vec<(u32, u8)>>>,
    answer: fn(Speed) -> i32,
}

impl Controllers for Answering {
    fn ports(&self) -> Result<Vec<Port>, VhciError> {
        self.sysfs.ports()
    }

    fn attach(&self, port: PortId, _: BorrowedFd<'_>, _: u32, speed: Speed) -> io::Result<()> {
        self.asked.borrow_mut().push((port.0, speed.code()));
        match (self.answer)(speed) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn detach(&self, port: PortId) -> io::Result<()> {
        self.sysfs.detach(port)
    }

    fn path(&self, file: &str) -> PathBuf {
        self.sysfs.path(file)
    }

    fn generation(&self) -> u64 {
        self.generation.get()
    }
}

struct Bench {
    vhci: Vhci,
    generation: Rc<Cell<u64>>,
    asked: Rc<RefCell<Vec<(u32, u8)>>>,
    _root: TempDir,
}

impl Bench {
    fn new(used: &[u32], answer: fn(Speed) -> i32) -> Self {
        let root = tree(used);
        let generation = Rc::new(Cell::new(1));
        let asked = Rc::default();
        let vhci = Vhci::of(Box::new(Answering {
            sysfs: Sysfs::below(root.path()),
            generation: Rc::clone(&generation),
            asked: Rc::clone(&asked),
            answer,
        }));
        Self {
            vhci,
            generation,
            asked,
            _root: root,
        }
    }

    fn attach(&self, speed: Speed) -> Result<u32, VhciError> {
        let (socket, _ours) = UnixStream::pair().expect("a socket pair");
        self.vhci
            .attach(socket.as_fd(), 1, speed)
            .map(|port| port.0)
    }

    /// The ports that were tried since the last question.
    fn asked(&self) -> Vec<(u32, u8)> {
        self.asked.take()
    }
}

#[test]
fn the_rows_of_all_controllers_are_read() {
    let root = tree(&[1]);
    let ports = Vhci::at(root.path()).ports().expect("readable ports");
    assert_eq!(ports.len(), 8);
    assert_eq!(
        ports[1],
        Port {
            id: PortId(1),
            controller: 0,
            hub: Hub::High,
            state: PortState::Used,
            devid: 0x0001_0002,
            local_bus_id: "3-1".to_owned(),
        }
    );
    assert_eq!((ports[6].controller, ports[6].hub), (1, Hub::Super));
}

#[test]
fn attaching_writes_port_socket_device_and_speed() {
    let root = tree(&[]);
    let (socket, _ours) = UnixStream::pair().expect("a socket pair");
    let port = Vhci::at(root.path())
        .attach(socket.as_fd(), 65538, Speed::Super)
        .expect("an attached port");
    assert_eq!(port, PortId(2));
    assert_eq!(
        written(&root, "attach"),
        format!("2 {} 65538 5", socket.as_raw_fd())
    );
}

#[test]
fn detaching_writes_the_port() {
    let root = tree(&[5]);
    Vhci::at(root.path())
        .detach(PortId(5))
        .expect("a detached port");
    assert_eq!(written(&root, "detach"), "5");
}

#[test]
fn the_speed_picks_the_hub_and_the_emptiest_controller_comes_first() {
    let bench = Bench::new(&[0, 6], |_| libc::EBUSY);
    bench.attach(Speed::Low).expect_err("busy ports");
    assert_eq!(bench.asked(), [(4, 1), (5, 1), (1, 1)]);
    bench.attach(Speed::Super).expect_err("busy ports");
    assert_eq!(bench.asked(), [(2, 5), (3, 5), (7, 5)]);
}

#[test]
fn one_attach_after_another_goes_to_the_next_controller() {
    let bench = Bench::new(&[], |_| 0);
    let attach = || bench.attach(Speed::High).expect("an attached port");
    assert_eq!([attach(), attach(), attach()], [0, 4, 0]);
}

#[test]
fn a_kernel_without_super_speed_plus_is_asked_for_super_speed() {
    let bench = Bench::new(&[], |speed| match speed {
        Speed::SuperPlus => libc::EINVAL,
        Speed::Low | Speed::Full | Speed::High | Speed::Super => 0,
    });
    assert_eq!(bench.attach(Speed::SuperPlus).expect("an attached port"), 2);
    assert_eq!(bench.asked(), [(2, 6), (2, 5)]);
}

#[test]
fn a_refusal_is_not_tried_on_every_port() {
    let bench = Bench::new(&[], |_| libc::EINVAL);
    let refused = bench.attach(Speed::High);
    assert!(matches!(refused, Err(VhciError::Refused { .. })));
    assert_eq!(bench.asked().len(), 1);
}

#[test]
fn a_worn_hub_is_left_alone_until_the_module_is_loaded_again() {
    let bench = Bench::new(&[], |_| 0);
    bench.vhci.wear_out(PortId(1)).expect("readable ports");
    let attach = |speed| bench.attach(speed).expect("an attached port");
    assert_eq!([attach(Speed::High), attach(Speed::Full)], [4, 4]);
    // The other hub of the same controller has its own numbers.
    assert_eq!(attach(Speed::Super), 2);
    bench.generation.set(2);
    assert_eq!([attach(Speed::High), attach(Speed::High)], [4, 0]);
}

#[test]
fn hubs_that_are_all_worn_or_full_name_the_remedy() {
    let bench = Bench::new(&[4, 5], |_| 0);
    assert!(bench.vhci.has_room(Speed::High).is_ok());
    bench.vhci.wear_out(PortId(0)).expect("readable ports");
    for error in [
        bench.attach(Speed::High).map(drop),
        bench.vhci.has_room(Speed::High),
    ] {
        let error = error.expect_err("no port").to_string();
        assert!(error.contains("1 of 2 high-speed hubs"), "{error}");
        let remedy = "modprobe -r vhci_hcd && modprobe vhci_hcd";
        assert!(error.ends_with(remedy), "{error}");
    }
    assert_eq!(bench.asked(), []);
}

#[test]
fn a_kernel_without_ports_of_that_speed_is_told_from_a_full_one() {
    let root = tree(&[]);
    for name in ["status", "status.1"] {
        let path = root.path().join("vhci_hcd.0").join(name);
        let text = fs::read_to_string(&path).expect("a status file");
        let high = text.lines().filter(|line| !line.starts_with("ss"));
        fs::write(&path, high.collect::<Vec<_>>().join("\n")).expect("a status file");
    }
    let error = Vhci::at(root.path()).has_room(Speed::Super);
    let error = error.expect_err("no hub").to_string();
    assert!(error.contains("no super-speed ports"), "{error}");
    assert!(error.contains("USB 2"), "{error}");
}

#[test]
fn full_hubs_a_missing_module_and_a_missing_right_name_the_remedy() {
    let root = tree(&[0, 1, 4, 5]);
    let (socket, _ours) = UnixStream::pair().expect("a socket pair");
    let error = Vhci::at(root.path())
        .attach(socket.as_fd(), 1, Speed::Full)
        .expect_err("no free port");
    assert!(error.to_string().contains("all 4 high-speed ports"));

    let nowhere = tempfile::tempdir().expect("a temporary directory");
    let error = Vhci::at(nowhere.path()).ports().expect_err("no module");
    assert!(error.to_string().ends_with("run: modprobe vhci-hcd"));

    let denied = io::Error::from_raw_os_error(libc::EACCES);
    let error = VhciError::io(Path::new("/sys/attach"), denied);
    assert!(
        error
            .to_string()
            .contains("/sys/attach; run the client as root")
    );
}

#[test]
fn a_status_file_of_another_format_is_shown() {
    let root = tree(&[]);
    for row in [
        "prt sta spd",
        "hs 0000 004",
        "hs  0099 004 000 00000000 000000 0-0",
        "xs  0000 004 000 00000000 000000 0-0",
    ] {
        let path = root.path().join("vhci_hcd.0/status");
        fs::write(path, format!("{HEAD}{row}\n")).expect("a status file");
        let error = Vhci::at(root.path()).ports().expect_err("a wrong row");
        assert!(error.to_string().contains(row), "{error}");
    }
}
