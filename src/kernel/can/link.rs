//! CAN interfaces by rtnetlink: which there are, making and removing virtual ones, bit timing and
//! error counters of real ones (kernel `drivers/net/can/dev/netlink.c`).
//!
//! Calls wait for the kernel, some milliseconds when an interface goes down.

use std::io;

use nix::errno::Errno;

use super::netlink::{
    self, INTERFACE, Message, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, Netlink, attributes,
};

/// Bytes of one classic frame, the MTU of an interface without FD.
pub const MTU_CLASSIC: u32 = 16;
/// Bytes of one FD frame, the MTU of an interface with it.
pub const MTU_FD: u32 = 72;
/// Longest name of an interface (`IFNAMSIZ` without the NUL).
pub const NAME_MAX: usize = 15;
/// Longest alias of an interface (`IFALIASZ` without the NUL).
pub const ALIAS_MAX: usize = 255;

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const ARPHRD_CAN: u16 = 280;
const IFF_UP: u32 = 1;

const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_XSTATS: u16 = 3;
const VXCAN_INFO_PEER: u16 = 1;
const IFLA_CAN_BITTIMING: u16 = 1;
const IFLA_CAN_STATE: u16 = 4;
const IFLA_CAN_CTRLMODE: u16 = 5;
const IFLA_CAN_RESTART_MS: u16 = 6;
const IFLA_CAN_BERR_COUNTER: u16 = 8;
const IFLA_CAN_DATA_BITTIMING: u16 = 9;
/// Words of `struct can_bittiming`.
const BITTIMING_WORDS: usize = 8;
/// `struct can_device_stats`: bus errors, warnings, passive, bus-off, arbitration, restarts.
const STATS_WORDS: usize = 6;

/// Bit rate and where in a bit it is sampled. What is left of `struct can_bittiming` the kernel works
/// out from these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Bits per second.
    pub bitrate: u32,
    /// In tenths of a percent of the bit; 0 leaves it to the kernel.
    pub sample_point: u32,
}

/// How a controller stands to its bus (`enum can_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusState {
    /// Both error counters are below 96.
    Active,
    /// One of them is below 128.
    Warning,
    /// One of them is below 256.
    Passive,
    /// It has left the bus for too many errors.
    Off,
    /// It was not started.
    Stopped,
    /// It sleeps.
    Sleeping,
    /// A number that the kernel did not have in 6.12.
    Unknown(u32),
}

impl From<u32> for BusState {
    fn from(state: u32) -> Self {
        match state {
            0 => Self::Active,
            1 => Self::Warning,
            2 => Self::Passive,
            3 => Self::Off,
            4 => Self::Stopped,
            5 => Self::Sleeping,
            other => Self::Unknown(other),
        }
    }
}

/// What a real interface has and a virtual one has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Controller {
    /// Timing of classic frames and of the first part of FD frames; a bit rate of 0 was never set.
    pub timing: Timing,
    /// Timing of the data of FD frames, where that was set.
    pub data: Timing,
    /// `CAN_CTRLMODE_*` bits that are on.
    pub modes: u32,
    /// State.
    pub state: BusState,
    /// Transmit and receive error counters, where the driver reads them.
    pub errors: Option<(u16, u16)>,
    /// After how many milliseconds the kernel restarts it from bus-off; 0 never.
    pub restart_ms: u32,
    /// How often it was restarted.
    pub restarts: u32,
    /// How often it went off the bus.
    pub bus_offs: u32,
}

impl Controller {
    /// `CAN_CTRLMODE_LOOPBACK`: it hears what it sends and nothing else.
    pub const LOOPBACK: u32 = 0x01;
    /// `CAN_CTRLMODE_LISTENONLY`: it neither sends nor acknowledges.
    pub const LISTEN_ONLY: u32 = 0x02;
    /// `CAN_CTRLMODE_ONE_SHOT`: what the bus does not take is not sent again.
    pub const ONE_SHOT: u32 = 0x08;
    /// `CAN_CTRLMODE_FD`.
    pub const FD: u32 = 0x20;
}

/// A CAN interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number, which is never used again while the kernel runs.
    pub index: u32,
    /// Its name: `can0`.
    pub name: String,
    /// It takes part in traffic.
    pub up: bool,
    /// Bytes of its longest frame.
    pub mtu: u32,
    /// A free text of whoever set it up; may be empty.
    pub alias: String,
    /// The kind of driver: `can` for real ones, `vcan`, `vxcan`; may be empty.
    pub kind: String,
    /// Where it is a real one.
    pub controller: Option<Controller>,
}

impl Link {
    /// It takes CAN FD frames.
    pub const fn is_fd(&self) -> bool {
        self.mtu >= MTU_FD
    }
}

/// A virtual interface to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Everybody who opens it hears everybody else.
    Vcan,
    /// A pair: what is sent on one is received on the other, which has this name.
    Vxcan(String),
}

/// A socket of rtnetlink.
#[derive(Debug)]
pub struct Links {
    netlink: Netlink,
}

impl Links {
    /// Opens the socket.
    ///
    /// # Errors
    /// What socket(2) says.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            netlink: Netlink::open()?,
        })
    }

    /// Every CAN interface of this network namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn list(&mut self) -> io::Result<Vec<Link>> {
        let mut links = Vec::new();
        let request = Message::new(RTM_GETLINK, 0, 0, 0, 0);
        let each = |body: &[u8]| links.extend(parse(body));
        self.netlink.ask(request, NLM_F_DUMP, each)?;
        Ok(links)
    }

    /// The CAN interface of that name.
    ///
    /// # Errors
    /// `ENODEV` when there is none, or it is no CAN interface.
    pub fn find(&mut self, name: &str) -> io::Result<Link> {
        let mut request = Message::new(RTM_GETLINK, 0, 0, 0, 0);
        request.text(IFLA_IFNAME, name);
        let mut link = None;
        self.netlink.ask(request, 0, |body| link = parse(body))?;
        link.ok_or_else(|| Errno::ENODEV.into())
    }

    /// Makes a virtual interface, which is down. The kernel loads the module if it may.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken, `EOPNOTSUPP` without the module, `EPERM`.
    pub fn create(&mut self, name: &str, kind: &Kind, mtu: u32) -> io::Result<()> {
        let how = NLM_F_CREATE | NLM_F_EXCL;
        let mut request = Message::new(RTM_NEWLINK, how, 0, 0, 0);
        request.text(IFLA_IFNAME, name);
        request.number(IFLA_MTU, mtu);
        request.nested(IFLA_LINKINFO, |request| match kind {
            Kind::Vcan => request.text(IFLA_INFO_KIND, "vcan"),
            Kind::Vxcan(peer) => {
                request.text(IFLA_INFO_KIND, "vxcan");
                request.nested(IFLA_INFO_DATA, |request| {
                    request.nested(VXCAN_INFO_PEER, |request| {
                        request.interface(0, 0, 0);
                        request.text(IFLA_IFNAME, peer);
                        request.number(IFLA_MTU, mtu);
                    });
                });
            }
        });
        self.netlink.act(request)
    }

    /// Removes a virtual interface, and the other one of its pair.
    ///
    /// # Errors
    /// `ENODEV`, `EPERM`; `EOPNOTSUPP` for a real one.
    pub fn delete(&mut self, index: u32) -> io::Result<()> {
        self.netlink
            .act(Message::new(RTM_DELLINK, 0, signed(index)?, 0, 0))
    }

    /// Gives an interface its alias, cut after [`ALIAS_MAX`] bytes.
    ///
    /// # Errors
    /// `ENODEV`, `EPERM`.
    pub fn set_alias(&mut self, index: u32, alias: &str) -> io::Result<()> {
        let mut request = Message::new(RTM_NEWLINK, 0, signed(index)?, 0, 0);
        let alias = alias.as_bytes();
        let alias = alias.get(..ALIAS_MAX).unwrap_or(alias);
        request.attribute(IFLA_IFALIAS, alias);
        self.netlink.act(request)
    }

    /// Lets an interface take part in traffic, or not.
    ///
    /// # Errors
    /// `ENODEV`, `EPERM`; `EINVAL` for one whose bit rate was never set.
    pub fn set_up(&mut self, index: u32, up: bool) -> io::Result<()> {
        let flags = if up { IFF_UP } else { 0 };
        self.netlink
            .act(Message::new(RTM_NEWLINK, 0, signed(index)?, flags, IFF_UP))
    }

    /// Sets timing and modes of a real interface that is down; `modes` are those in `mask`.
    ///
    /// # Errors
    /// `EBUSY` while it is up, `EINVAL` or `EDOM` for what it cannot do, `EOPNOTSUPP`, `EPERM`.
    pub fn configure(
        &mut self,
        index: u32,
        timing: Timing,
        data: Option<Timing>,
        mask: u32,
        modes: u32,
    ) -> io::Result<()> {
        let mut request = Message::new(RTM_NEWLINK, 0, signed(index)?, 0, 0);
        request.nested(IFLA_LINKINFO, |request| {
            request.text(IFLA_INFO_KIND, "can");
            request.nested(IFLA_INFO_DATA, |request| {
                if mask != 0 {
                    request.attribute(IFLA_CAN_CTRLMODE, &words(&[mask, modes]));
                }
                request.attribute(IFLA_CAN_BITTIMING, &bit_timing(timing));
                if let Some(data) = data {
                    request.attribute(IFLA_CAN_DATA_BITTIMING, &bit_timing(data));
                }
            });
        });
        self.netlink.act(request)
    }
}

fn signed(index: u32) -> io::Result<i32> {
    i32::try_from(index).map_err(|_| Errno::ENODEV.into())
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `struct can_bittiming` of which the kernel works out everything but these.
fn bit_timing(timing: Timing) -> Vec<u8> {
    let mut all = [0; BITTIMING_WORDS];
    all[0] = timing.bitrate;
    all[1] = timing.sample_point;
    words(&all)
}

/// The words with which a value begins.
fn read_words<const N: usize>(value: &[u8]) -> Option<[u32; N]> {
    let mut words = [0; N];
    let mut chunks = value.chunks_exact(4);
    for word in &mut words {
        *word = netlink::number(chunks.next()?)?;
    }
    Some(words)
}

/// An answer to `RTM_GETLINK`; `None` when it is of no CAN interface.
fn parse(body: &[u8]) -> Option<Link> {
    let (head, values) = body.split_first_chunk::<INTERFACE>()?;
    if netlink::half(head, 2)? != ARPHRD_CAN {
        return None;
    }
    let [_, index, flags, _] = read_words(head)?;
    let mut link = Link {
        index,
        name: String::new(),
        up: flags & IFF_UP != 0,
        mtu: MTU_CLASSIC,
        alias: String::new(),
        kind: String::new(),
        controller: None,
    };
    for (kind, value) in attributes(values) {
        match kind {
            IFLA_IFNAME => link.name = netlink::text(value),
            IFLA_MTU => link.mtu = netlink::number(value)?,
            IFLA_IFALIAS => link.alias = netlink::text(value),
            IFLA_LINKINFO => link_info(&mut link, value),
            _ => {}
        }
    }
    Some(link)
}

fn link_info(link: &mut Link, value: &[u8]) {
    let mut stats = [0; STATS_WORDS];
    for (kind, value) in attributes(value) {
        match kind {
            IFLA_INFO_KIND => link.kind = netlink::text(value),
            IFLA_INFO_DATA if link.kind == "can" => link.controller = Some(controller(value)),
            IFLA_INFO_XSTATS => stats = read_words(value).unwrap_or(stats),
            _ => {}
        }
    }
    if let Some(controller) = &mut link.controller {
        let [_, _, _, bus_offs, _, restarts] = stats;
        (controller.bus_offs, controller.restarts) = (bus_offs, restarts);
    }
}

fn controller(value: &[u8]) -> Controller {
    let mut controller = Controller {
        timing: Timing::default(),
        data: Timing::default(),
        modes: 0,
        state: BusState::Stopped,
        errors: None,
        restart_ms: 0,
        restarts: 0,
        bus_offs: 0,
    };
    let timing = |value| {
        let [bitrate, sample_point] = read_words(value).unwrap_or_default();
        Timing {
            bitrate,
            sample_point,
        }
    };
    for (kind, value) in attributes(value) {
        match kind {
            IFLA_CAN_BITTIMING => controller.timing = timing(value),
            IFLA_CAN_DATA_BITTIMING => controller.data = timing(value),
            IFLA_CAN_CTRLMODE => controller.modes = read_words::<2>(value).unwrap_or_default()[1],
            IFLA_CAN_STATE => controller.state = netlink::number(value).unwrap_or(u32::MAX).into(),
            IFLA_CAN_RESTART_MS => {
                controller.restart_ms = netlink::number(value).unwrap_or_default();
            }
            IFLA_CAN_BERR_COUNTER => {
                controller.errors = value
                    .first_chunk()
                    .map(|&[a, b, c, d]| (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])));
            }
            _ => {}
        }
    }
    controller
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer as the kernel gives it for a real interface that is up.
    fn answer(kind: u16) -> Vec<u8> {
        let mut message = Message::new(RTM_NEWLINK, 0, 4, IFF_UP, 0);
        message.text(IFLA_IFNAME, "can0");
        message.number(IFLA_MTU, MTU_FD);
        message.text(IFLA_IFALIAS, "gearbox");
        message.nested(IFLA_LINKINFO, |message| {
            message.text(IFLA_INFO_KIND, "can");
            message.nested(IFLA_INFO_DATA, |message| {
                let timing = |bitrate, sample_point| {
                    bit_timing(Timing {
                        bitrate,
                        sample_point,
                    })
                };
                message.attribute(IFLA_CAN_BITTIMING, &timing(500_000, 875));
                message.attribute(IFLA_CAN_DATA_BITTIMING, &timing(2_000_000, 750));
                message.attribute(IFLA_CAN_CTRLMODE, &words(&[0x30, 0x20]));
                message.number(IFLA_CAN_STATE, 2);
                message.attribute(
                    IFLA_CAN_BERR_COUNTER,
                    &[136u16.to_ne_bytes(), [0; 2]].concat(),
                );
            });
            message.attribute(IFLA_INFO_XSTATS, &words(&[9, 3, 2, 1, 0, 5]));
        });
        let mut body = message.body().to_vec();
        body.splice(2..4, kind.to_ne_bytes());
        body
    }

    #[test]
    fn a_real_interface_is_told_with_its_controller() {
        let link = parse(&answer(ARPHRD_CAN)).unwrap();
        assert_eq!(link.index, 4);
        assert_eq!(
            (link.name.as_str(), link.alias.as_str()),
            ("can0", "gearbox")
        );
        assert!(link.up && link.is_fd());
        let controller = link.controller.unwrap();
        assert_eq!(controller.timing.bitrate, 500_000);
        assert_eq!(controller.timing.sample_point, 875);
        assert_eq!(controller.data.bitrate, 2_000_000);
        assert_eq!(controller.modes, Controller::FD);
        assert_eq!(controller.state, BusState::Passive);
        assert_eq!(controller.errors, Some((136, 0)));
        assert_eq!((controller.restarts, controller.bus_offs), (5, 1));
    }

    #[test]
    fn an_interface_of_another_kind_is_none() {
        assert_eq!(parse(&answer(1)), None);
    }

    #[test]
    fn an_answer_cut_anywhere_is_no_harm() {
        let whole = answer(ARPHRD_CAN);
        for end in 0..whole.len() {
            let _ = parse(&whole[..end]);
        }
    }
}
