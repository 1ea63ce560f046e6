use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use proptest::prelude::*;
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

/// The ports that would be tried, with every one of them busy.
fn tried(vhci: &Vhci, speed: Speed) -> Vec<(u32, u8)> {
    let mut tried = Vec::new();
    let ports = vhci.ports().expect("readable ports");
    let result = vhci.attach_by(&ports, speed, &mut |port, speed| {
        tried.push((port.0, speed.code()));
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    });
    assert!(matches!(result, Err(AttachFailure::NoFreePort { .. })));
    tried
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
    let root = tree(&[0, 6]);
    let vhci = Vhci::at(root.path());
    assert_eq!(tried(&vhci, Speed::Low), [(4, 1), (5, 1), (1, 1)]);
    assert_eq!(tried(&vhci, Speed::Super), [(2, 5), (3, 5), (7, 5)]);
}

#[test]
fn one_attach_after_another_goes_to_the_next_controller() {
    let root = tree(&[]);
    let vhci = Vhci::at(root.path());
    let ports = vhci.ports().expect("readable ports");
    let attach = || {
        vhci.attach_by(&ports, Speed::High, &mut |_, _| Ok(()))
            .expect("an attached port")
            .0
    };
    assert_eq!([attach(), attach(), attach()], [0, 4, 0]);
}

#[test]
fn a_kernel_without_super_speed_plus_is_asked_for_super_speed() {
    let root = tree(&[]);
    let vhci = Vhci::at(root.path());
    let ports = vhci.ports().expect("readable ports");
    let mut asked = Vec::new();
    let port = vhci.attach_by(&ports, Speed::SuperPlus, &mut |_, speed| {
        asked.push(speed.code());
        match speed {
            Speed::SuperPlus => Err(io::Error::from_raw_os_error(libc::EINVAL)),
            Speed::Low | Speed::Full | Speed::High | Speed::Super => Ok(()),
        }
    });
    assert_eq!(port.expect("an attached port"), PortId(2));
    assert_eq!(asked, [6, 5]);
}

#[test]
fn a_refusal_is_not_tried_on_every_port() {
    let root = tree(&[]);
    let vhci = Vhci::at(root.path());
    let ports = vhci.ports().expect("readable ports");
    let mut writes = 0;
    let failure = vhci
        .attach_by(&ports, Speed::High, &mut |_, _| {
            writes += 1;
            Err(io::Error::from_raw_os_error(libc::EINVAL))
        })
        .expect_err("a refusal");
    assert_eq!(writes, 1);
    assert!(matches!(
        failure.into_error(Path::new("attach")),
        VhciError::Refused { .. }
    ));
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
    let error = io_error(Path::new("/sys/attach"), denied);
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

proptest! {
    #[test]
    fn any_row_is_refused_or_read(line in "(hs|ss)?[ 0-9a-f-]{0,60}\\PC{0,8}") {
        if let Some(port) = parse_row(0, &line) {
            prop_assert!(!port.local_bus_id.is_empty());
        }
    }
}
