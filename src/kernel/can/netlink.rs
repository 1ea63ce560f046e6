//! Messages of rtnetlink: attributes written and read, one request at a time with its answer
//! (kernel `include/uapi/linux/netlink.h`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

const NLM_F_REQUEST: u16 = 0x01;
const NLM_F_ACK: u16 = 0x04;
pub(super) const NLM_F_EXCL: u16 = 0x200;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE_FLAGS: u16 = 0xC000;
/// `struct nlmsghdr`.
const HEAD: usize = 16;
/// `struct ifinfomsg`.
pub(super) const INTERFACE: usize = 16;
/// A dump's messages come in pieces of at most 32 KiB (`netlink_recvmsg()`).
const BUFFER: usize = 64 << 10;
/// How long the kernel may take for an answer, in seconds.
const PATIENCE: i64 = 10;

/// A request while it is being written.
#[derive(Clone, Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
    kind: u16,
    how: u16,
}

impl Message {
    /// About the interface with that index, of which the flags in `change` become those of `flags`.
    pub(super) fn new(kind: u16, how: u16, index: i32, flags: u32, change: u32) -> Self {
        let mut message = Self {
            bytes: vec![0; HEAD],
            kind,
            how,
        };
        message.interface(index, flags, change);
        message
    }

    /// Appends a `struct ifinfomsg`.
    pub(super) fn interface(&mut self, index: i32, flags: u32, change: u32) {
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&index.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&change.to_ne_bytes());
    }

    /// Appends an attribute.
    pub(super) fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.nested(kind, |message| message.bytes.extend_from_slice(value));
    }

    /// Appends a number.
    pub(super) fn number(&mut self, kind: u16, value: u32) {
        self.attribute(kind, &value.to_ne_bytes());
    }

    /// Appends a text with its final NUL.
    pub(super) fn text(&mut self, kind: u16, value: &str) {
        self.nested(kind, |message| {
            message.bytes.extend_from_slice(value.as_bytes());
            message.bytes.push(0);
        });
    }

    /// Appends an attribute that has others inside.
    pub(super) fn nested(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        inside(self);
        // INVARIANT: every value that is written here is shorter than 4 KiB.
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        self.bytes.splice(start..start + 2, length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Without its head, as an answer is seen.
    #[cfg(test)]
    pub(super) fn body(&self) -> &[u8] {
        &self.bytes[HEAD..]
    }

    fn finish(mut self, how: u16, number: u32) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let how = self.how | how | NLM_F_REQUEST;
        let (kind, how) = (self.kind.to_ne_bytes(), how.to_ne_bytes());
        let head = length.to_ne_bytes().into_iter().chain(kind).chain(how);
        self.bytes.splice(..12, head.chain(number.to_ne_bytes()));
        self.bytes
    }
}

/// A socket to the kernel's routing netlink, on which calls wait for their answer.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    number: u32,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE, 0))?;
        Ok(Self { socket, number: 0 })
    }

    /// Has something done.
    pub(super) fn act(&mut self, message: Message) -> io::Result<()> {
        self.ask(message, NLM_F_ACK, |_| {})
    }

    /// Asks for something; `each` is given every message of the answer, without its head.
    pub(super) fn ask(
        &mut self,
        message: Message,
        how: u16,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        self.number = self.number.wrapping_add(1);
        let request = message.finish(how, self.number);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(
            self.socket.as_raw_fd(),
            &request,
            &kernel,
            MsgFlags::empty(),
        )?;
        let dump = how & NLM_F_DUMP == NLM_F_DUMP;
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            for (head, body) in Messages(buffer.get(..length).unwrap_or_default()) {
                if head.number != self.number {
                    continue;
                }
                match head.kind {
                    NLMSG_ERROR => return result(body),
                    NLMSG_DONE => return Ok(()),
                    _ => each(body),
                }
                if !dump && how & NLM_F_ACK == 0 {
                    return Ok(());
                }
            }
        }
    }
}

fn result(body: &[u8]) -> io::Result<()> {
    let code = body.first_chunk().copied().map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(Errno::EBADMSG.into()),
    }
}

struct Head {
    kind: u16,
    number: u32,
}

/// The messages of one datagram.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (Head, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::try_from(number(self.0)?).ok()?;
        let head = Head {
            kind: half(self.0, 4)?,
            number: number(self.0.get(8..)?)?,
        };
        let body = self.0.get(HEAD..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((head, body))
    }
}

/// The attributes that stand one after the other in `bytes`.
pub(super) fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes(bytes)
}

pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [a, b, c, d] = *self.0.first_chunk::<4>()?;
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([c, d]) & !TYPE_FLAGS, value))
    }
}

/// The 16-bit number that stands there.
pub(super) fn half(bytes: &[u8], at: usize) -> Option<u16> {
    let half = bytes.get(at..)?.first_chunk().copied();
    half.map(u16::from_ne_bytes)
}

/// The number with which a value begins.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().copied().map(u32::from_ne_bytes)
}

/// A value's text, up to its NUL.
pub(super) fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0);
    let text = value.get(..end.unwrap_or(value.len()));
    String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn attributes_are_padded_and_know_their_length() {
        let mut message = Message::new(16, NLM_F_CREATE, 7, 1, 1);
        message.nested(18, |message| {
            message.text(1, "vcan");
            message.number(2, 72);
        });
        let bytes = message.finish(NLM_F_ACK, 9);
        assert_eq!(bytes.len(), HEAD + INTERFACE + 4 + 12 + 8);
        assert_eq!(number(&bytes), u32::try_from(bytes.len()).ok());
        let all: Vec<_> = Messages(&bytes).collect();
        let [(head, body)] = &all[..] else {
            panic!("one message");
        };
        assert_eq!((head.kind, head.number), (16, 9));
        assert_eq!(body[4..8], 7i32.to_ne_bytes());
        let (kind, inside) = attributes(&body[INTERFACE..]).next().unwrap();
        assert_eq!(kind, 18);
        let inside: Vec<_> = attributes(inside).collect();
        assert_eq!(inside, [(1, &b"vcan\0"[..]), (2, &72u32.to_ne_bytes()[..])]);
        assert_eq!(text(inside[0].1), "vcan");
    }

    #[test]
    fn this_kernel_names_its_loopback() {
        let mut names = Vec::new();
        let mut netlink = Netlink::open().unwrap();
        netlink
            .ask(Message::new(18, 0, 0, 0, 0), NLM_F_DUMP, |body| {
                let values = body.get(INTERFACE..).unwrap_or_default();
                names.extend(
                    attributes(values)
                        .filter(|(kind, _)| *kind == 3)
                        .map(|(_, name)| text(name)),
                );
            })
            .unwrap();
        assert!(names.iter().any(|name| name == "lo"), "{names:?}");
    }

    proptest! {
        #[test]
        fn no_bytes_of_the_kernel_are_read_beyond_their_end(
            bytes in proptest::collection::vec(any::<u8>(), 0..128),
        ) {
            for (_, body) in Messages(&bytes) {
                prop_assert!(attributes(body).count() <= bytes.len());
            }
        }
    }
}
