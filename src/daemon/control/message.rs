//! What is said over the control socket. The reply types are also what `--json` prints, so a field
//! once published keeps its name and meaning.
//!
//! All ids are lower-case hexadecimal, all times seconds, unless a name says otherwise.

mod auto;
mod error;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::device::acl::Mode;

pub use auto::{AutoDevice, AutoRule, AutoStatus, RuleState};
pub use error::{ControlError, ErrorKind};

/// The version of these messages; a daemon refuses a request of another one.
pub const VERSION: u32 = 1;

/// The first line of a connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct Opening {
    /// [`VERSION`] of the asker.
    pub version: u32,
    /// What it wants; kept as it is until the version is checked.
    pub request: serde_json::Value,
}

/// What a subcommand asks of a daemon. Names of devices and nodes are as the person typed them; the
/// daemon resolves them (`device::name`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Both: answered with [`Reply::Server`] or [`Reply::Client`].
    Status,
    /// Both: answered with [`Reply::Local`] or [`Reply::Remote`].
    List,
    /// Server: offer a device; [`Reply::Exported`].
    Export {
        /// Device, or pattern ending in `*`.
        device: String,
        /// Although this machine uses it.
        force: bool,
    },
    /// Server: offer it no longer; [`Reply::Unexported`].
    Unexport {
        /// Device, or pattern ending in `*`.
        device: String,
    },
    /// Server: add or replace an access entry; [`Reply::Acl`] with that entry.
    AclGrant {
        /// Device, or pattern ending in `*`.
        device: String,
        /// Node name, node-id or its beginning, `role:NAME` or `family:ID`.
        subject: String,
        /// What it grants.
        mode: Mode,
    },
    /// Server: remove access entries; [`Reply::Acl`] with the removed ones.
    AclRevoke {
        /// Device, or pattern ending in `*`.
        device: String,
        /// As in [`Request::AclGrant`].
        subject: String,
    },
    /// Server: [`Reply::Acl`] with the whole list.
    AclList,
    /// Server: let one new node join. Sends [`Progress::Invited`], asks [`Question::Admit`] unless
    /// `admit` is set, answers [`Reply::Joined`]. Closing the connection withdraws the invite.
    Invite {
        /// Roles the new node gets.
        roles: Vec<String>,
        /// Addresses to put into the token, `HOST:PORT`; empty: the daemon's own choice.
        addresses: Vec<String>,
        /// How long it is valid.
        minutes: u32,
        /// Admit whoever holds the token without asking.
        admit: bool,
    },
    /// Server: [`Reply::Members`].
    Members,
    /// Server: exclude a node; closes its sessions; [`Reply::Revoked`].
    Revoke {
        /// Node name, node-id or its beginning.
        node: String,
    },
    /// Client: the rules by which devices become local by themselves; [`Reply::Auto`].
    AutoList,
    /// Client: make a remote device local; sends [`Progress::Step`]; [`Reply::Attached`].
    Attach {
        /// Node name, node-id or its beginning.
        node: String,
        /// Device as that node offers it.
        device: String,
        /// What it is to be called here, where its bus lets one choose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// As what it is to appear here, where there are several ways.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        way: Option<String>,
        /// What its bus lets one choose besides, by name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        options: BTreeMap<String, Vec<String>>,
        /// How many seconds it stays without its owner, where its bus lets one choose.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grace: Option<u64>,
    },
    /// Client: an operation of the device's bus, such as `pulse` of a serial port;
    /// [`Reply::Operated`].
    Operate {
        /// Node name, node-id or its beginning.
        node: String,
        /// An attached device or, for buses that need no attaching, one that the node offers.
        device: String,
        /// By a name of its bus.
        operation: String,
        /// By names of its bus.
        #[serde(default)]
        parameters: BTreeMap<String, String>,
    },
    /// Client: give a device back; [`Reply::Detached`].
    Detach {
        /// Which.
        target: DetachTarget,
    },
    /// Client: reset an attached device; [`Reply::Reset`].
    Reset {
        /// Which.
        target: DetachTarget,
    },
    /// Client: have a device to oneself, and keep it so until [`Request::Unlock`]; sends
    /// [`Progress::Step`] while it waits; [`Reply::Locked`].
    Lock {
        /// Node name, node-id or its beginning.
        node: String,
        /// Device as that node offers it.
        device: String,
        /// Seconds after which the lock ends if this machine does not renew it.
        ttl: u32,
        /// Seconds to wait for it.
        wait: u32,
    },
    /// Both: end a lock; [`Reply::Unlocked`].
    Unlock {
        /// Client: node name, node-id or its beginning; `None`: whichever node it is from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
        /// Device.
        device: String,
        /// Whoever has it. A server is asked for nothing else.
        #[serde(default, rename = "break")]
        breaking: bool,
    },
    /// Server: who has or waits for which offered device; [`Reply::Who`].
    Who,
}

/// What to detach, or to reset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DetachTarget {
    /// Everything.
    All,
    /// By vhci port number.
    Port(u32),
    /// By node and device.
    Device {
        /// Node name, node-id or its beginning; `None`: whichever node it is from.
        node: Option<String>,
        /// Device.
        device: String,
    },
}

/// A line from the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// Something happened; more follows.
    Progress(Progress),
    /// The asker must answer with [`Answer`]; more follows.
    Question(Question),
    /// Done; the last line.
    Reply(Box<Reply>),
    /// Not done; the last line.
    Error(ControlError),
}

/// The asker's answer to a [`Question`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Yes or no.
    pub yes: bool,
}

/// News while a request is being worked on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progress {
    /// A step in words for a person: "claiming the device on shed".
    Step(String),
    /// The invite is open.
    Invited {
        /// The text to hand to the new node.
        token: String,
        /// Addresses in the token.
        addresses: Vec<String>,
        /// End of validity, seconds since 1970.
        expires: u64,
    },
    /// A node tried the token and failed; the invite may still be open.
    Attempt {
        /// Where from.
        from: SocketAddr,
        /// How many more attempts the invite survives.
        left: u32,
    },
}

/// Something only the person at the terminal can decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// A node proved that it has the token: may it join?
    Admit {
        /// The name it gives itself; not proven.
        name: String,
        /// Its proven node-id.
        node: String,
        /// Where it connects from.
        from: String,
        /// The roles it would get.
        roles: Vec<String>,
    },
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Request::Status`].
    Server(ServerStatus),
    /// To [`Request::Status`].
    Client(ClientStatus),
    /// To [`Request::List`]: this machine's own devices.
    Local(Vec<LocalDevice>),
    /// To [`Request::List`]: what each known node offers.
    Remote(Vec<RemoteNode>),
    /// To [`Request::Export`].
    Exported(Exported),
    /// To [`Request::Unexport`].
    Unexported(Unexported),
    /// To the access list requests.
    Acl(Vec<AclLine>),
    /// To [`Request::Members`].
    Members(Vec<MemberInfo>),
    /// To [`Request::Invite`].
    Joined(MemberInfo),
    /// To [`Request::Revoke`].
    Revoked(Revoked),
    /// To [`Request::Attach`].
    Attached(AttachedDevice),
    /// To [`Request::Detach`].
    Detached(Vec<AttachedDevice>),
    /// To [`Request::Reset`].
    Reset(Vec<AttachedDevice>),
    /// To [`Request::AutoList`].
    Auto(AutoStatus),
    /// To [`Request::Operate`]: what came of it, as its bus tells it.
    Operated(serde_json::Value),
    /// To [`Request::Lock`].
    Locked(HeldLock),
    /// To [`Request::Unlock`].
    Unlocked(HeldLock),
    /// To [`Request::Who`].
    Who(Vec<DeviceUse>),
}

/// A lock that a node has, or had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// To a client: the node that owns the device. To a server: the node that had its lock.
    pub node: NodeName,
    /// The device's id.
    pub device: String,
    /// Greater than that of every lock of that owner before.
    pub fence: u64,
    /// Seconds until it ends unless it is renewed.
    pub left: u64,
}

/// Who has an offered device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceUse {
    /// Stable id.
    pub device: String,
    /// What people call it.
    pub name: String,
    /// Who has it open, in the order in which they came.
    pub users: Vec<UserInfo>,
    /// Whose lock it is under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<LockInfo>,
    /// Who waits for its lock, the next one first.
    pub queue: Vec<WaitingInfo>,
}

/// One session that has a device open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    /// Its other end.
    pub node: NodeName,
    /// The address of that.
    pub address: String,
    /// Seconds since it opened the device.
    pub since: u64,
}

/// The lock of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// Who has it.
    pub node: NodeName,
    /// Greater than that of every lock before.
    pub fence: u64,
    /// Seconds since it was acquired.
    pub since: u64,
    /// Seconds until it ends unless it is renewed.
    pub left: u64,
}

/// One that waits for a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingInfo {
    /// Who.
    pub node: NodeName,
    /// Seconds since it asked.
    pub since: u64,
}

/// A node by id and name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeName {
    /// Node-id.
    pub id: String,
    /// Name in its certificate; may be empty.
    pub name: String,
}

/// What `myclerk status` shows of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// This node.
    pub node: NodeName,
    /// The family's id and name.
    pub family: NodeName,
    /// Version of the running daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime: u64,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Devices it offers.
    pub offered: usize,
    /// Open sessions.
    pub sessions: Vec<SessionInfo>,
}

/// One open session of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// The other end.
    pub node: NodeName,
    /// Its address.
    pub address: String,
    /// Seconds since it was opened.
    pub age: u64,
    /// The highest tier it may use, 3 to 5.
    pub tier: u8,
    /// Devices it has open.
    pub devices: Vec<String>,
    /// What it does with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uses: Vec<InUse>,
    /// Bytes received and sent on the path.
    pub bytes_in: u64,
    /// See `bytes_in`.
    pub bytes_out: u64,
}

/// What `myclerk status` shows of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientStatus {
    /// This node.
    pub node: NodeName,
    /// The family's id and name.
    pub family: NodeName,
    /// Version of the running daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime: u64,
    /// Nodes it connects to.
    pub nodes: Vec<PeerInfo>,
    /// Devices that are local now.
    pub attached: Vec<AttachedDevice>,
    /// Why the rules in `client.toml` are not those that are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules_problem: Option<String>,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Link {
    /// An authenticated session is open.
    Connected,
    /// Being set up.
    Connecting,
    /// Waiting before the next attempt.
    Waiting,
    /// The other side refused; no further attempts until restart.
    Refused,
}

impl Link {
    /// The word in tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Connecting => "connecting",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
        }
    }
}

/// One node that a client connects to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// The node.
    pub node: NodeName,
    /// The address in use, or tried last.
    pub address: String,
    /// How the connection stands.
    pub link: Link,
    /// Seconds it has stood so.
    pub since: u64,
    /// Round-trip time in microseconds, when measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_us: Option<u64>,
    /// Why it is not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One device of this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalDevice {
    /// Stable id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The name of the port that it is plugged into, `usb@1-1.4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugged: Option<String>,
    /// True when the export policy names it.
    pub exported: bool,
    /// Why it is not usable by others, or would not be if exported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hazard: Option<String>,
    /// The node that uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<NodeName>,
    /// The other nodes that use it, where several may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<NodeName>,
}

/// What one node offers to this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteNode {
    /// The node.
    pub node: NodeName,
    /// How the connection stands.
    pub link: Link,
    /// Why nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its devices that this node may see.
    pub devices: Vec<RemoteDevice>,
}

/// One device of another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteDevice {
    /// Stable id on that node.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// What this node may do with it.
    pub mode: Mode,
    /// Whether it could be attached now.
    pub state: DeviceState,
    /// The local port it is attached to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// What it is on this machine, if it is not attached to a port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// The node that uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<NodeName>,
}

/// Whether a device can be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceState {
    /// Yes.
    Free,
    /// This node has it.
    Attached,
    /// Somebody else has it.
    InUse,
    /// Somebody else holds its lock.
    Locked,
    /// Its owner uses it itself.
    Unavailable,
}

impl DeviceState {
    /// The word in tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Attached => "attached",
            Self::InUse => "in use",
            Self::Locked => "locked",
            Self::Unavailable => "unavailable",
        }
    }
}

/// A remote device that is, or was, local.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachedDevice {
    /// The node that owns it.
    pub node: NodeName,
    /// Its id there.
    pub device: String,
    /// What people call it.
    pub name: String,
    /// Its bus: `usb`, `serial`, …
    #[serde(default)]
    pub class: String,
    /// The vhci port of a USB device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// Of a USB device: `low`, `full`, `high`, `super`, `super+`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<String>,
    /// False while the link is down and the port is held.
    pub live: bool,
    /// Seconds since it was attached.
    pub age: u64,
    /// What it is on this machine, as far as known: `/dev/sdb`, `/dev/ttyUSB0`, `mc-can0`.
    pub files: Vec<String>,
    /// A rule attaches it by itself. After [`Reply::Detached`]: it would, but leaves it alone now.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub auto: bool,
    /// It was unplugged: seconds that are left for another one to be plugged into its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<u64>,
    /// What went to its owner and came from there since it was attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Traffic>,
}

/// What went over the streams of a device. In is what came from the other node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes of payloads.
    pub bytes_in: u64,
    /// See `bytes_in`.
    pub bytes_out: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Events that this side did not send because the other was too slow.
    pub drops: u64,
    /// Half of the requests of the last half to whole minute took no longer, in microseconds; at most a
    /// quarter too high.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_us: Option<u64>,
    /// 99 of 100 did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_us: Option<u64>,
}

impl Traffic {
    /// Adds counts of the same device on another stream.
    pub fn add(&mut self, other: &Self) {
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.requests = self.requests.saturating_add(other.requests);
        self.drops = self.drops.saturating_add(other.drops);
    }
}

/// A device that a session of a server has open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InUse {
    /// Its id.
    pub device: String,
    /// What went over all its streams in this session.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// One access entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AclLine {
    /// Device, or pattern ending in `*`.
    pub device: String,
    /// `node:ID`, `role:NAME` or `family:ID`.
    pub subject: String,
    /// The node's name, when the subject is a known node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it grants.
    pub mode: Mode,
    /// Only for these opcodes, both ends included; empty means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<(u16, u16)>,
    /// End of validity, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// To [`Request::Export`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Device id or pattern as stored.
    pub device: String,
    /// What people call it; empty for a pattern or an absent device.
    pub name: String,
    /// The name of the port that it is plugged into, when it is present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plugged: Option<String>,
    /// False when it was exported just so already.
    pub changed: bool,
    /// Access entries that match it; zero means that nobody can see it yet.
    pub entries: usize,
}

/// To [`Request::Unexport`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unexported {
    /// Device id or pattern.
    pub device: String,
    /// False when it was not exported.
    pub changed: bool,
    /// Patterns that still offer it.
    pub still: Vec<String>,
    /// The node that was using it and lost it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_from: Option<NodeName>,
}

/// One node of the family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Node-id.
    pub id: String,
    /// Name in its certificate.
    pub name: String,
    /// Roles in its certificate.
    pub roles: Vec<String>,
    /// When it joined, seconds since 1970.
    pub joined: u64,
    /// End of its certificate, seconds since 1970.
    pub expires: u64,
    /// When it was excluded, seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// True for the node that answers.
    pub this: bool,
    /// Whether it has a session with this daemon; `None` when no daemon was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
}

/// To [`Request::Revoke`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// The excluded node.
    pub node: NodeName,
    /// Number of the new revocation list.
    pub crl: u64,
    /// Epoch of the new family PSK.
    pub psk_epoch: u64,
    /// Sessions that were closed by it.
    pub closed: usize,
    /// Access entries for it that are gone.
    pub entries: usize,
}
