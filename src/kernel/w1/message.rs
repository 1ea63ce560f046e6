//! The messages of the connector: `nlmsghdr`, then `cn_msg`, then `w1_netlink_msg`, then any number of
//! `w1_netlink_cmd`, all in this machine's byte order.
//!
//! The kernel answers each command by its status, and before that by the data that came of it: both
//! repeat the sequence number of the request, the status its `ack`, the data that number plus one.

use nix::errno::Errno;

/// The longest message, without the header of netlink (`CONNECTOR_MAX_MSG_SIZE`).
pub const MAX_MESSAGE: usize = 16_384;

/// `CN_W1_IDX` and `CN_W1_VAL` (include/uapi/linux/connector.h).
const W1: (u32, u32) = (3, 1);
/// `NLMSG_DONE`, as the connector marks everything.
const DONE: u16 = 3;

/// `W1_MASTER_CMD`.
const MASTER_CMD: u8 = 4;

const HEADER: usize = 16;
const CN: usize = 20;
const MSG: usize = 12;
const CMD: usize = 4;

/// One command (`enum w1_commands`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Reads so many bytes.
    Read(u16),
    /// Writes bytes.
    Write(&'a [u8]),
    /// Finds all devices. The kernel makes slaves of those that it did not know.
    Search,
    /// Finds the devices with an alarm.
    AlarmSearch,
    /// Resets the bus. A driver that cannot tell whether anybody answered says yes.
    Reset,
}

impl Command<'_> {
    const fn code(self) -> u8 {
        match self {
            Self::Read(_) => 0,
            Self::Write(_) => 1,
            Self::Search => 2,
            Self::AlarmSearch => 3,
            Self::Reset => 5,
        }
    }

    /// Bytes that stand behind it; those of a read are room for the kernel to read into.
    const fn length(self) -> usize {
        match self {
            Self::Read(count) => count as usize,
            Self::Write(bytes) => bytes.len(),
            Self::Search | Self::AlarmSearch | Self::Reset => 0,
        }
    }
}

/// What came of a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// 0, or an errno of the kernel. A reset that nobody answered has 255: -1, seen as a byte.
    pub status: u8,
    /// What was read or found; devices are 8 bytes each.
    pub data: Vec<u8>,
}

/// A message with that sequence number.
pub(super) fn encode(number: u32, master: u32, commands: &[Command]) -> Result<Vec<u8>, Errno> {
    let length = |commands: &[Command]| -> Option<usize> {
        commands.iter().try_fold(0_usize, |sum, command| {
            sum.checked_add(CMD)?.checked_add(command.length())
        })
    };
    let commands_length = length(commands).ok_or(Errno::EMSGSIZE)?;
    if commands_length > MAX_MESSAGE - CN - MSG {
        return Err(Errno::EMSGSIZE);
    }
    let total = HEADER + CN + MSG + commands_length;
    let mut out = Vec::with_capacity(total);
    let word = |out: &mut Vec<u8>, value: usize| -> Result<(), Errno> {
        let value = u16::try_from(value).map_err(|_| Errno::EMSGSIZE)?;
        out.extend_from_slice(&value.to_ne_bytes());
        Ok(())
    };
    let long = |out: &mut Vec<u8>, value: u32| out.extend_from_slice(&value.to_ne_bytes());

    long(&mut out, u32::try_from(total).map_err(|_| Errno::EMSGSIZE)?);
    out.extend_from_slice(&DONE.to_ne_bytes());
    word(&mut out, 0)?;
    long(&mut out, number);
    long(&mut out, 0);

    long(&mut out, W1.0);
    long(&mut out, W1.1);
    long(&mut out, number);
    long(&mut out, 0);
    word(&mut out, MSG + commands_length)?;
    word(&mut out, 0)?;

    out.extend_from_slice(&[MASTER_CMD, 0]);
    word(&mut out, commands_length)?;
    long(&mut out, master);
    long(&mut out, 0);

    for command in commands {
        out.extend_from_slice(&[command.code(), 0]);
        word(&mut out, command.length())?;
        match command {
            Command::Write(bytes) => out.extend_from_slice(bytes),
            Command::Read(count) => out.resize(out.len() + usize::from(*count), 0),
            Command::Search | Command::AlarmSearch | Command::Reset => {}
        }
    }
    Ok(out)
}

/// A request whose answers are awaited.
#[derive(Debug)]
pub(super) struct Pending {
    number: u32,
    /// The commands without a status yet, each with the bytes that it has to read.
    wanted: std::collections::VecDeque<(u8, Option<usize>)>,
    /// What came for the first of them.
    data: Vec<u8>,
    done: Vec<Done>,
}

impl Pending {
    pub(super) fn new(number: u32, commands: &[Command]) -> Self {
        let wanted = commands.iter().map(|command| {
            let reads = match command {
                Command::Read(count) => Some(usize::from(*count)),
                Command::Write(_) | Command::Search | Command::AlarmSearch | Command::Reset => None,
            };
            (command.code(), reads)
        });
        Self {
            number,
            wanted: wanted.collect(),
            data: Vec::new(),
            done: Vec::new(),
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.wanted.is_empty()
    }

    pub(super) fn into_done(self) -> Vec<Done> {
        self.done
    }

    /// Takes a message of the kernel; those that belong to others are left alone.
    ///
    /// # Errors
    /// The kernel refused the request as a whole. `EBADMSG` when it said what cannot be.
    pub(super) fn take(&mut self, message: &[u8]) -> Result<(), Errno> {
        let mut rest = Fields(message);
        // Several connector messages may stand behind the one header (cn_netlink_send_mult).
        let length = usize::try_from(rest.u32()?).map_err(|_| Errno::EBADMSG)?;
        rest.skip(HEADER - 4)?;
        let body = length.checked_sub(HEADER).ok_or(Errno::EBADMSG)?;
        let mut rest = Fields(rest.bytes(body)?);
        while !rest.0.is_empty() {
            let id = (rest.u32()?, rest.u32()?);
            let (number, ack) = (rest.u32()?, rest.u32()?);
            let length = usize::from(rest.u16()?);
            rest.skip(2)?;
            let body = rest.bytes(length)?;
            if id == W1 && number == self.number {
                self.take_w1(ack, body)?;
            }
        }
        Ok(())
    }

    fn take_w1(&mut self, ack: u32, body: &[u8]) -> Result<(), Errno> {
        let mut rest = Fields(body);
        while !rest.0.is_empty() {
            let [kind, status] = rest.two()?;
            let length = usize::from(rest.u16()?);
            rest.skip(8)?;
            let mut commands = Fields(rest.bytes(length)?);
            if kind != MASTER_CMD {
                continue;
            }
            let is_data = ack == self.number.wrapping_add(1);
            if commands.0.is_empty() && !is_data {
                // A status without a command is about the whole message.
                return match status {
                    0 => Ok(()),
                    code => Err(Errno::from_raw(i32::from(code))),
                };
            }
            while !commands.0.is_empty() {
                let [code, _] = commands.two()?;
                let length = usize::from(commands.u16()?);
                let data = commands.bytes(length)?;
                self.take_command(code, is_data, status, data)?;
            }
        }
        Ok(())
    }

    fn take_command(
        &mut self,
        code: u8,
        is_data: bool,
        status: u8,
        data: &[u8],
    ) -> Result<(), Errno> {
        let Some((wanted, reads)) = self.wanted.front().copied() else {
            // More than was asked for.
            return Err(Errno::EBADMSG);
        };
        if wanted != code {
            return Err(Errno::EBADMSG);
        }
        if is_data {
            self.data.extend_from_slice(data);
            return Ok(());
        }
        let data = core::mem::take(&mut self.data);
        if status == 0 && reads.is_some_and(|count| count != data.len()) {
            return Err(Errno::EBADMSG);
        }
        self.done.push(Done { status, data });
        self.wanted.pop_front();
        Ok(())
    }
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Errno::EBADMSG)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn skip(&mut self, count: usize) -> Result<(), Errno> {
        self.bytes(count).map(|_| ())
    }

    fn two(&mut self) -> Result<[u8; 2], Errno> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Errno::EBADMSG)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn u16(&mut self) -> Result<u16, Errno> {
        self.two().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Result<u32, Errno> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Errno::EBADMSG)?;
        self.0 = rest;
        Ok(u32::from_ne_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests;
