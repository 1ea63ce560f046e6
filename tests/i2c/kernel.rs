//! The kernel's end of a character device, byte for byte (fs/fuse), and programs with memory of their own.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use myclerk::kernel::cuse::{Config, Cuse, MAX_PIECES, MAX_TRANSFER};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UnixDatagram;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

const INIT: u32 = 4096;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const RELEASE: u32 = 18;
const INTERRUPT: u32 = 36;
const IOCTL: u32 = 39;
const RETRY: u32 = 4;
/// More than the largest message.
const ROOM: usize = 1 << 19;

pub(crate) const RETRIES: u32 = 0x0701;
pub(crate) const TIMEOUT: u32 = 0x0702;
pub(crate) const SLAVE: u32 = 0x0703;
pub(crate) const TENBIT: u32 = 0x0704;
pub(crate) const FUNCS: u32 = 0x0705;
pub(crate) const SLAVE_FORCE: u32 = 0x0706;
pub(crate) const RDWR: u32 = 0x0707;
pub(crate) const PEC: u32 = 0x0708;
pub(crate) const SMBUS: u32 = 0x0720;

/// Where programs keep the argument of an ioctl, messages, and data.
pub(crate) const ARGUMENT: u64 = 0x1_0000;
pub(crate) const MESSAGES: u64 = 0x2_0000;
pub(crate) const DATA: u64 = 0x10_0000;
/// Where no program has memory.
pub(crate) const WILD: u64 = 0xDEAD_0000;

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_ne_bytes(bytes[4 * index..][..4].try_into().unwrap())
}

fn long(bytes: &[u8], index: usize) -> u64 {
    u64::from_ne_bytes(bytes[8 * index..][..8].try_into().unwrap())
}

/// What the device answers to one request: an errno, or what follows the header.
type Reply = Result<Vec<u8>, Errno>;

/// The kernel's end.
pub(crate) struct Kernel {
    channel: UnixDatagram,
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, oneshot::Sender<Reply>>>,
    /// Rounds of ioctls so far.
    pub(crate) rounds: Cell<usize>,
}

/// A call under way.
pub(crate) struct Call {
    id: u64,
    reply: oneshot::Receiver<Reply>,
}

impl Kernel {
    /// The kernel, and the device that it made.
    pub(crate) fn with_device() -> (Rc<Self>, Cuse) {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        for end in [&ours, &theirs] {
            // A whole call with its header in one message.
            setsockopt(end, sockopt::SndBuf, &ROOM).unwrap();
        }
        let init = message(INIT, 1, &words(&[7, 41, 0, 1]));
        assert_eq!(ours.try_send(&init).unwrap(), init.len());
        let config = Config {
            name: "i2c-1000".to_owned(),
            max_read: MAX_TRANSFER,
            max_write: MAX_TRANSFER,
        };
        let cuse = Cuse::over(theirs.into_std().unwrap().into(), &config).unwrap();
        let kernel = Rc::new(Self {
            channel: ours,
            next: Cell::new(2),
            waiting: RefCell::default(),
            rounds: Cell::new(0),
        });
        spawn_local(Rc::clone(&kernel).hears());
        (kernel, cuse)
    }

    /// Hands out answers until the device is gone.
    async fn hears(self: Rc<Self>) {
        let mut answer = vec![0; ROOM];
        loop {
            let Ok(length) = self.channel.recv(&mut answer).await else {
                return;
            };
            assert_eq!(usize::try_from(word(&answer, 0)), Ok(length));
            let (error, id) = (word(&answer, 1).cast_signed(), long(&answer, 1));
            let reply = match error {
                0 => Ok(answer[16..length].to_vec()),
                error => Err(Errno::from_raw(-error)),
            };
            if let Some(waiting) = self.waiting.borrow_mut().remove(&id) {
                // A test may have forgotten the call.
                let _ = waiting.send(reply);
            }
        }
    }

    fn call(&self, opcode: u32, fields: &[u8]) -> Call {
        let id = self.next.get();
        self.next.set(id + 1);
        let (waiting, reply) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, waiting);
        let message = message(opcode, id, fields);
        assert_eq!(self.channel.try_send(&message).unwrap(), message.len());
        Call { id, reply }
    }

    /// A program that has the device open.
    pub(crate) async fn open(self: &Rc<Self>) -> Result<Program, Errno> {
        let reply = self.finish(self.call(OPEN, &words(&[2, 0]))).await?;
        Ok(Program {
            kernel: Rc::clone(self),
            fh: long(&reply, 0),
            compat: false,
            memory: RefCell::default(),
        })
    }

    pub(crate) async fn finish(&self, call: Call) -> Reply {
        call.reply.await.expect("an answer")
    }

    pub(crate) fn interrupt(&self, call: &Call) {
        drop(self.call(INTERRUPT, &call.id.to_ne_bytes()));
    }
}

fn message(opcode: u32, id: u64, fields: &[u8]) -> Vec<u8> {
    let length = u32::try_from(40 + fields.len()).unwrap();
    let mut message = words(&[length, opcode]);
    message.extend(id.to_ne_bytes());
    message.extend(0_u64.to_ne_bytes());
    message.extend(words(&[1000, 100, 4242, 0]));
    message.extend(fields);
    message
}

/// A program that has the device open.
pub(crate) struct Program {
    kernel: Rc<Kernel>,
    fh: u64,
    /// It is a 32-bit program.
    pub(crate) compat: bool,
    memory: RefCell<BTreeMap<u64, Vec<u8>>>,
}

/// `struct i2c_msg`
#[derive(Clone, Copy)]
pub(crate) struct Msg {
    pub(crate) addr: u16,
    pub(crate) flags: u16,
    pub(crate) len: u16,
    pub(crate) buf: u64,
}

impl Program {
    /// Bytes that it has there; nothing is mapped around them.
    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.borrow_mut().insert(at, bytes.to_vec());
    }

    pub(crate) fn bytes(&self, at: u64, len: usize) -> Vec<u8> {
        self.gather(&[(at, u64::try_from(len).unwrap())]).unwrap()
    }

    /// What pieces of its memory hold.
    fn gather(&self, pieces: &[(u64, u64)]) -> Result<Vec<u8>, Errno> {
        let memory = self.memory.borrow();
        let mut gathered = Vec::new();
        for (at, len) in pieces {
            let (start, held) = memory.range(..=at).next_back().ok_or(Errno::EFAULT)?;
            let from = usize::try_from(at - start).unwrap();
            let len = usize::try_from(*len).unwrap();
            let piece = held.get(from..).and_then(|rest| rest.get(..len));
            gathered.extend_from_slice(piece.ok_or(Errno::EFAULT)?);
        }
        Ok(gathered)
    }

    fn scatter(&self, pieces: &[(u64, u64)], mut bytes: &[u8]) -> Result<(), Errno> {
        let mut memory = self.memory.borrow_mut();
        for (at, len) in pieces {
            let (now, rest) = bytes.split_at(bytes.len().min(usize::try_from(*len).unwrap()));
            let (start, held) = memory.range_mut(..=at).next_back().ok_or(Errno::EFAULT)?;
            let from = usize::try_from(at - start).unwrap();
            let room = held
                .get_mut(from..)
                .and_then(|room| room.get_mut(..now.len()));
            room.ok_or(Errno::EFAULT)?.copy_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }

    /// `fuse_do_ioctl`: the rounds of one call.
    pub(crate) async fn ioctl(&self, cmd: u32, arg: u64) -> Result<i32, Errno> {
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        loop {
            let call = self.round(cmd, arg, &inputs, &outputs)?;
            let reply = self.kernel.finish(call).await?;
            let [result, flags, ins, outs] = [0, 1, 2, 3].map(|index| word(&reply, index));
            let rest = &reply[16..];
            if flags & RETRY == 0 {
                let room: u64 = outputs.iter().map(|(_, len)| len).sum();
                if u64::try_from(rest.len()).unwrap() > room {
                    return Err(Errno::EIO);
                }
                self.scatter(&outputs, rest)?;
                return Ok(result.cast_signed());
            }
            let [ins, outs] = [ins, outs].map(|count| usize::try_from(count).unwrap());
            if ins + outs > MAX_PIECES {
                return Err(Errno::ENOMEM);
            }
            assert_eq!(rest.len(), 16 * (ins + outs));
            let pieces: Vec<_> = rest
                .chunks(16)
                .map(|one| (long(one, 0), long(one, 1)))
                .collect();
            if self.compat && pieces.iter().any(|(base, _)| u32::try_from(*base).is_err()) {
                return Err(Errno::EIO);
            }
            (inputs, outputs) = (pieces[..ins].to_vec(), pieces[ins..].to_vec());
        }
    }

    /// One round with these pieces.
    fn round(
        &self,
        cmd: u32,
        arg: u64,
        inputs: &[(u64, u64)],
        outputs: &[(u64, u64)],
    ) -> Result<Call, Errno> {
        self.kernel.rounds.set(self.kernel.rounds.get() + 1);
        let input = self.gather(inputs)?;
        let room: u64 = outputs.iter().map(|(_, len)| len).sum();
        let sizes = [input.len(), usize::try_from(room).unwrap()];
        let [in_size, out_size] = sizes.map(|size| u32::try_from(size).unwrap());
        assert!(in_size <= MAX_TRANSFER && out_size <= MAX_TRANSFER);
        let fields = [
            &self.fh.to_ne_bytes(),
            &*words(&[u32::from(self.compat), cmd]),
            &arg.to_ne_bytes(),
            &*words(&[in_size, out_size]),
            &input,
        ];
        Ok(self.kernel.call(IOCTL, &fields.concat()))
    }

    fn pointer(&self, at: u64) -> Vec<u8> {
        if self.compat {
            u32::try_from(at).unwrap().to_ne_bytes().to_vec()
        } else {
            at.to_ne_bytes().to_vec()
        }
    }

    /// `struct i2c_rdwr_ioctl_data`, at [`ARGUMENT`].
    pub(crate) fn put_header(&self, messages: u64, count: u32) {
        let mut header = self.pointer(messages);
        header.extend(count.to_ne_bytes());
        header.resize(if self.compat { 8 } else { 16 }, 0xAA);
        self.put(ARGUMENT, &header);
    }

    /// `I2C_RDWR` with these messages.
    pub(crate) async fn rdwr(&self, msgs: &[Msg]) -> Result<i32, Errno> {
        let mut array = Vec::new();
        for msg in msgs {
            for field in [msg.addr, msg.flags, msg.len, 0xAAAA] {
                array.extend(field.to_ne_bytes());
            }
            array.extend(self.pointer(msg.buf));
        }
        self.put(MESSAGES, &array);
        self.put_header(MESSAGES, u32::try_from(msgs.len()).unwrap());
        self.ioctl(RDWR, ARGUMENT).await
    }

    /// Writes to a chip and reads from it, in one transaction.
    pub(crate) async fn combined(
        &self,
        addr: u16,
        data: &[u8],
        len: u16,
    ) -> Result<Vec<u8>, Errno> {
        let room = DATA + 0x1_0000;
        self.put(DATA, data);
        self.put(room, &vec![0x55; len.into()]);
        let write = Msg {
            addr,
            flags: 0,
            len: u16::try_from(data.len()).unwrap(),
            buf: DATA,
        };
        let read = Msg {
            addr,
            flags: 1,
            len,
            buf: room,
        };
        assert_eq!(self.rdwr(&[write, read]).await?, 2);
        Ok(self.bytes(room, len.into()))
    }

    /// `I2C_SMBUS` with data at [`DATA`], which is all of the union and nothing behind it.
    pub(crate) async fn smbus(
        &self,
        read: u8,
        command: u8,
        size: u32,
        data: &[u8],
    ) -> Result<Vec<u8>, Errno> {
        self.put(DATA, data);
        self.smbus_at(read, command, size, DATA).await?;
        Ok(self.bytes(DATA, data.len()))
    }

    pub(crate) async fn smbus_at(
        &self,
        read: u8,
        command: u8,
        size: u32,
        data: u64,
    ) -> Result<i32, Errno> {
        let mut call = vec![read, command, 0xAA, 0xAA];
        call.extend(size.to_ne_bytes());
        call.extend(self.pointer(data));
        self.put(ARGUMENT, &call);
        self.ioctl(SMBUS, ARGUMENT).await
    }

    pub(crate) fn start_read(&self, size: u32) -> Call {
        let fields = words(&[0, 0, size, 0, 0, 0, 0, 0]);
        self.kernel
            .call(READ, &[&self.fh.to_ne_bytes(), &*fields].concat())
    }

    pub(crate) async fn read(&self, size: u32) -> Result<Vec<u8>, Errno> {
        self.kernel.finish(self.start_read(size)).await
    }

    pub(crate) async fn write(&self, bytes: &[u8]) -> Result<u32, Errno> {
        let size = u32::try_from(bytes.len()).unwrap();
        let fields = words(&[0, 0, size, 0, 0, 0, 0, 0]);
        let fields = [&self.fh.to_ne_bytes(), &*fields, bytes].concat();
        let reply = self.kernel.finish(self.kernel.call(WRITE, &fields)).await?;
        Ok(word(&reply, 0))
    }

    pub(crate) fn close(self) {
        let fields = [self.fh.to_ne_bytes().to_vec(), words(&[0; 4])].concat();
        drop(self.kernel.call(RELEASE, &fields));
    }
}
