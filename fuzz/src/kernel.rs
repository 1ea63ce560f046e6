//! The kernel's end of the socket: what it has asked for, and whether the answers are such that
//! vhci-hcd may be told them. Every number is compared with the kernel's own.

use std::collections::{HashMap, VecDeque};

use myclerk::kernel::usbip_pdu::{
    Command, HEADER, ISO_DESCRIPTOR, IsoDescriptor, RetSubmit, RetUnlink, Return, Submit, Unlink,
};

/// Largest errno that the kernel takes for one.
const MAX_ERRNO: i32 = 4095;
const ECONNRESET: i32 = 104;

/// A URB that the kernel waits for.
struct Urb {
    submit: Submit,
    iso: Vec<IsoDescriptor>,
}

/// What the kernel knows.
#[derive(Default)]
pub struct Kernel {
    urbs: HashMap<u32, VecDeque<Urb>>,
    /// Unlink commands and the URBs they name.
    unlinks: HashMap<u32, VecDeque<u32>>,
    unread: Vec<u8>,
    /// Commands are nonsense too: an unlink may name a URB that comes later.
    lenient: bool,
}

impl Kernel {
    /// A kernel whose commands may be anything.
    pub fn lenient() -> Self {
        Self {
            lenient: true,
            ..Self::default()
        }
    }

    /// A URB was submitted.
    pub fn submitted(&mut self, submit: Submit, iso: Vec<IsoDescriptor>) {
        let urbs = self.urbs.entry(submit.seqnum).or_default();
        urbs.push_back(Urb { submit, iso });
    }

    /// A URB was given up.
    pub fn unlinked(&mut self, unlink: Unlink) {
        let unlinks = self.unlinks.entry(unlink.seqnum).or_default();
        unlinks.push_back(unlink.target);
    }

    /// URBs and unlinks that wait for an answer.
    pub fn waiting(&self) -> usize {
        self.urbs.len() + self.unlinks.len()
    }

    /// The URBs that wait, in their order.
    pub fn outstanding(&self) -> Vec<u32> {
        let mut seqnums: Vec<u32> = self.urbs.keys().copied().collect();
        seqnums.sort_unstable();
        seqnums
    }

    /// Whether nobody has given that URB up: the kernel does it once.
    pub fn may_unlink(&self, target: u32) -> bool {
        !self
            .unlinks
            .values()
            .flatten()
            .any(|other| *other == target)
    }

    /// Takes bytes from the other end.
    ///
    /// # Panics
    /// When they are not what the kernel may be told.
    pub fn hear(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
        let unread = std::mem::take(&mut self.unread);
        let mut rest = unread.as_slice();
        while let Some(used) = self.message(rest) {
            rest = &rest[used..];
        }
        self.unread = rest.to_vec();
    }

    /// One message from the front; `None` until it is whole.
    fn message(&mut self, bytes: &[u8]) -> Option<usize> {
        let header = bytes.first_chunk::<HEADER>()?;
        match Return::parse(header).expect("an answer") {
            Return::Submit(ret) => {
                let body = self.completed(ret, &bytes[HEADER..])?;
                Some(HEADER + body)
            }
            Return::Unlink(ret) => {
                self.unlink_dealt_with(ret);
                Some(HEADER)
            }
        }
    }

    fn completed(&mut self, ret: RetSubmit, body: &[u8]) -> Option<usize> {
        let seqnum = ret.seqnum;
        let urb = self.urbs.get(&seqnum).and_then(VecDeque::front);
        let urb = urb.unwrap_or_else(|| panic!("URB {seqnum} does not wait"));
        let asked = &urb.submit;
        assert!(
            (-MAX_ERRNO..=0).contains(&ret.status),
            "{ret:?} is no status"
        );
        // Packets of a write may share a part of the buffer.
        let shared = asked.packets > 0 && !asked.input;
        assert!(
            shared || ret.actual_length <= asked.length,
            "{ret:?} exceeds {asked:?}"
        );
        let count = asked.packets;
        assert_eq!(ret.packets, count, "packets of {ret:?}");
        assert!(ret.error_count <= count, "errors of {ret:?}");
        let data = if asked.input { ret.actual_length } else { 0 } as usize;
        let descriptors = count as usize * ISO_DESCRIPTOR;
        if body.len() < data + descriptors {
            return None;
        }
        if count > 0 {
            packets(urb, ret, &body[data..data + descriptors]);
        }
        pop(&mut self.urbs, seqnum);
        Some(data + descriptors)
    }

    fn unlink_dealt_with(&mut self, ret: RetUnlink) {
        let target = pop(&mut self.unlinks, ret.seqnum);
        let target = target.unwrap_or_else(|| panic!("unlink {} does not wait", ret.seqnum));
        if ret.status == -ECONNRESET {
            let urb = pop(&mut self.urbs, target);
            assert!(urb.is_some() || self.lenient, "URB {target} ended twice");
        } else {
            assert_eq!(ret.status, 0, "{ret:?} is no status of an unlink");
            let waits = self.urbs.contains_key(&target);
            assert!(!waits || self.lenient, "URB {target} has no answer");
        }
    }
}

fn pop<T>(things: &mut HashMap<u32, VecDeque<T>>, name: u32) -> Option<T> {
    let queue = things.get_mut(&name)?;
    let first = queue.pop_front();
    if queue.is_empty() {
        things.remove(&name);
    }
    first
}

/// The packets are the kernel's own, with results that fit into them.
fn packets(urb: &Urb, ret: RetSubmit, bytes: &[u8]) {
    let told = loose(bytes);
    assert_eq!(told.len(), urb.iso.len());
    let (mut sum, mut errors) = (0, 0);
    for (told, asked) in told.iter().zip(&urb.iso) {
        assert_eq!((told.offset, told.length), (asked.offset, asked.length));
        assert!(told.actual_length <= asked.length, "{told:?} is too long");
        assert!(
            (-MAX_ERRNO..=0).contains(&told.status),
            "{told:?} is no status"
        );
        sum += told.actual_length;
        errors += u32::from(told.status != 0);
    }
    assert_eq!((ret.actual_length, ret.error_count), (sum, errors));
}

/// Reads what the kernel is made to say as the kernel knows it, up to the first nonsense.
pub fn commands(mut bytes: &[u8]) -> Vec<(Command, Vec<IsoDescriptor>)> {
    let mut commands = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let Ok(command) = Command::parse(header) else {
            break;
        };
        bytes = rest;
        let mut iso = Vec::new();
        if let Command::Submit(submit) = command {
            let data = submit.data_len() as usize;
            let Some(descriptors) = bytes.get(data..data + submit.iso_len()) else {
                break;
            };
            iso = loose(descriptors);
            bytes = &bytes[data + descriptors.len()..];
        }
        commands.push((command, iso));
    }
    commands
}

/// Descriptors as they stand there, inside of the buffer or not.
fn loose(bytes: &[u8]) -> Vec<IsoDescriptor> {
    let (descriptors, _) = bytes.as_chunks::<ISO_DESCRIPTOR>();
    let word = |bytes: &[u8; ISO_DESCRIPTOR], at: usize| {
        u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    descriptors
        .iter()
        .map(|bytes| IsoDescriptor {
            offset: word(bytes, 0),
            length: word(bytes, 4),
            actual_length: word(bytes, 8),
            status: word(bytes, 12).cast_signed(),
        })
        .collect()
}
