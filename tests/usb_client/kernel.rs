//! The kernel, played: its end of the socket, and the files of vhci-hcd.

use std::collections::HashSet;
use std::fs;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::Path;

use myclerk::bus::usb::op::Setup;
use myclerk::kernel::usbip_pdu::{
    Command, HEADER, ISO_ASAP, ISO_DESCRIPTOR, IsoDescriptor, RetUnlink, Return, Submit, Unlink,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The kernel's end of the socket.
pub(crate) struct Kernel {
    pub(crate) socket: UnixStream,
    pub(crate) reads: HashSet<u32>,
}

impl Kernel {
    pub(crate) fn new(socket: StdUnixStream) -> Self {
        socket.set_nonblocking(true).expect("a socket option");
        Self {
            socket: UnixStream::from_std(socket).expect("a registered socket"),
            reads: HashSet::new(),
        }
    }

    pub(crate) async fn send(&mut self, command: Command, data: &[u8]) {
        if let Command::Submit(submit) = command
            && submit.input
        {
            self.reads.insert(submit.seqnum);
        }
        let mut bytes = command.to_bytes().to_vec();
        bytes.extend_from_slice(data);
        self.socket.write_all(&bytes).await.expect("a written URB");
    }

    pub(crate) async fn read(&mut self, seqnum: u32, ep: u8, length: u32) {
        let submit = urb(seqnum, ep, true, length);
        self.send(Command::Submit(submit), &[]).await;
    }

    pub(crate) async fn write(&mut self, seqnum: u32, ep: u8, data: &[u8]) {
        let length = u32::try_from(data.len()).expect("a short write");
        let submit = urb(seqnum, ep, false, length);
        self.send(Command::Submit(submit), data).await;
    }

    pub(crate) async fn control(&mut self, seqnum: u32, setup: [u8; 8]) {
        let packet = Setup::from_bytes(setup);
        let length = u32::from(packet.length);
        let submit = Submit {
            setup,
            ..urb(seqnum, 0, packet.is_in(), length)
        };
        self.send(Command::Submit(submit), &[]).await;
    }

    pub(crate) async fn unlink(&mut self, seqnum: u32, target: u32) {
        self.send(Command::Unlink(Unlink { seqnum, target }), &[])
            .await;
    }

    pub(crate) async fn answer(&mut self) -> (Return, Vec<u8>) {
        let mut header = [0; HEADER];
        self.socket
            .read_exact(&mut header)
            .await
            .expect("an answer's header");
        let answer = Return::parse(&header).expect("an answer");
        let mut data = Vec::new();
        if let Return::Submit(ret) = answer
            && self.reads.contains(&ret.seqnum)
        {
            data.resize(ret.actual_length as usize, 0);
            self.socket
                .read_exact(&mut data)
                .await
                .expect("an answer's data");
        }
        (answer, data)
    }

    /// The packets behind an answer, inside a buffer of `length` bytes.
    pub(crate) async fn descriptors(&mut self, packets: usize, length: u32) -> Vec<IsoDescriptor> {
        let mut bytes = vec![0; packets * ISO_DESCRIPTOR];
        self.socket
            .read_exact(&mut bytes)
            .await
            .expect("an answer's packets");
        IsoDescriptor::parse_all(&bytes, length).expect("packets inside the buffer")
    }

    pub(crate) async fn expect(&mut self, seqnum: u32, status: i32, data: &[u8]) {
        let (answer, found) = self.answer().await;
        let Return::Submit(ret) = answer else {
            panic!("{answer:?} is no RET_SUBMIT");
        };
        assert_eq!((ret.seqnum, ret.status), (seqnum, status));
        assert_eq!(found, data);
    }

    pub(crate) async fn expect_unlink(&mut self, seqnum: u32, status: i32) {
        let (answer, _) = self.answer().await;
        assert_eq!(answer, Return::Unlink(RetUnlink { seqnum, status }));
    }
}

pub(crate) const fn urb(seqnum: u32, ep: u8, input: bool, length: u32) -> Submit {
    Submit {
        seqnum,
        devid: 0x0001_0002,
        input,
        ep,
        transfer_flags: 0,
        length,
        start_frame: 0,
        packets: u32::MAX,
        interval: 0,
        setup: [0; 8],
    }
}

pub(crate) const fn iso_urb(seqnum: u32, ep: u8, input: bool, length: u32, packets: u32) -> Submit {
    Submit {
        transfer_flags: ISO_ASAP,
        packets,
        interval: 1,
        ..urb(seqnum, ep, input, length)
    }
}

/// A vhci-hcd whose port 3 can be freed.
pub(crate) struct Sysfs {
    pub(crate) root: TempDir,
}

impl Sysfs {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directory = root.path().join("vhci_hcd.0");
        fs::create_dir(&directory).expect("a directory");
        let status = "hub port sta spd dev      sockfd local_busid\n\
                      hs  0000 004 000 00000000 000000 0-0\n\
                      ss  0001 004 000 00000000 000000 0-0\n";
        for (name, text) in [
            ("nports", "2\n"),
            ("status", status),
            ("attach", ""),
            ("detach", ""),
        ] {
            fs::write(directory.join(name), text).expect("a file");
        }
        Self { root }
    }

    pub(crate) fn path(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn written(&self, name: &str) -> String {
        fs::read_to_string(self.path().join("vhci_hcd.0").join(name)).expect("a written file")
    }

    /// Frees the port as the kernel does: whoever writes to `detach` finds the socket shut down.
    pub(crate) fn shut_on_detach(&self, socket: StdUnixStream) {
        let path = self.path().join("vhci_hcd.0/detach");
        fs::remove_file(&path).expect("a replaced file");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        std::thread::spawn(move || {
            // A test that ends without a detach takes the pipe away.
            let Ok(port) = fs::read_to_string(&path) else {
                return;
            };
            fs::remove_file(&path).expect("a pipe to remove");
            fs::write(&path, port).expect("a file that keeps the port's number");
            socket
                .shutdown(std::net::Shutdown::Both)
                .expect("a socket to shut down");
        });
    }
}
