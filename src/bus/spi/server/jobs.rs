//! What is done with a device; all of it may wait for the bus.

use nix::errno::Errno;
use tracing::warn;

use super::{bad, internal, io_error};
use crate::bus::spi::hardware::{SpiDevice, SpiHost};
use crate::bus::spi::op::{
    Change, Extension, OpenRequest, Opened, Settings, Transfer, bus_us, decode_read,
    decode_transfer, decode_write, encode_empty, encode_read_answer, encode_received, mode,
};
use crate::bus::{Answer, Grant, Refused};
use crate::kernel::spidev::MAX_TRANSFERS;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// The bits of the mode that `"flags"` may have.
const FLAGS: u32 = mode::ALL & !(mode::CPHA | mode::CPOL | mode::CS_HIGH | mode::LSB_FIRST);

/// The most bytes of one message each way, whatever spidev takes: with its frame it fits into what a
/// session reassembles (profile 18).
const MAX_BUFSIZ: u32 = 512 << 10;
/// The most bytes of a message that are neither sent nor kept. The kernel counts them nowhere.
const MAX_IDLE: u64 = 512 << 10;
/// The longest time that one message may keep the bus, in microseconds: nothing ends it before, and
/// whoever wants the device next waits for it.
const MAX_BUS_US: u64 = 60_000_000;

/// A request on an open device.
pub(super) enum Job {
    /// `SPI_CONFIGURE`
    Configure(Change),
    /// `SPI_TRANSFER`
    Transfer(Vec<Transfer>),
    /// `SPI_WRITE`
    Write(Vec<u8>),
    /// `SPI_READ`
    Read(u32),
    /// Whether the device is still there; no request.
    Look,
}

/// A device in use. Dropping it puts its settings back; that may wait.
pub(super) struct InUse {
    place: String,
    device: Box<dyn SpiDevice>,
    bufsiz: u32,
    /// How it was spoken to before.
    first: Settings,
}

impl Job {
    pub(super) fn decode(opcode: Opcode, payload: &[u8]) -> Result<Self, Refused> {
        let job = match opcode {
            Opcode::SpiConfigure => Change::decode(payload).map(Self::Configure),
            Opcode::SpiTransfer => decode_transfer(payload).map(Self::Transfer),
            Opcode::SpiWrite => decode_write(payload).map(|bytes| Self::Write(bytes.to_vec())),
            Opcode::SpiRead => decode_read(payload).map(Self::Read),
            other => {
                let text = format!("{other} does not run on an SPI device");
                return Err(Refused::unsupported(text));
            }
        };
        job.map_err(|error| bad(&error))
    }
}

impl InUse {
    /// Takes the device that a peer wants; the payload of the answer comes with it.
    pub(super) fn open(host: &dyn SpiHost, grant: &Grant) -> Result<(Self, Vec<u8>), Refused> {
        let request = OpenRequest::decode(&grant.payload).map_err(|error| bad(&error))?;
        if !grant.write {
            let text = "an SPI device needs the right to write";
            return Err(Refused::new(Status::Forbidden, sub::ACL, text));
        }
        let place = grant.present.place.clone();
        let device = host.open(&place).map_err(|errno| match errno {
            Errno::ENOENT | Errno::ENXIO => Refused::gone(),
            errno => io_error("cannot open the device", errno),
        })?;
        let first = device
            .settings()
            .map_err(|errno| io_error("cannot read the device's settings", errno))?;
        let bufsiz = host.bufsiz().min(MAX_BUFSIZ);
        let in_use = Self {
            place,
            device,
            bufsiz,
            first,
        };
        if !request.keep {
            in_use.configure(&change(&request.settings))?;
        }
        let opened = Opened {
            settings: in_use.settings()?,
            ext: Some(Extension {
                entries: u32::try_from(MAX_TRANSFERS).unwrap_or(u32::MAX),
                bufsiz,
                flags: FLAGS,
            }),
        };
        Ok((in_use, opened.encode().map_err(|error| internal(&error))?))
    }

    pub(super) fn perform(&mut self, job: Job) -> Answer {
        match job {
            Job::Configure(change) => {
                self.configure(&change)?;
                let opened = Opened {
                    settings: self.settings()?,
                    ext: None,
                };
                opened.encode().map_err(|error| internal(&error))
            }
            Job::Look => self.settings().map(|_| Vec::new()),
            Job::Transfer(transfers) => self.transfer(&transfers),
            Job::Write(bytes) => {
                self.fits(bytes.len())?;
                self.ends_in_time(&[Transfer {
                    tx: bytes.clone(),
                    ..Transfer::default()
                }])?;
                let count = self.device.write(&bytes);
                let count = count.map_err(|errno| io_error("cannot write", errno))?;
                if count < bytes.len() {
                    return Err(Refused::io("cannot write all of it", Errno::EIO));
                }
                Ok(encode_empty())
            }
            Job::Read(len) => {
                self.fits(usize::try_from(len).unwrap_or(usize::MAX))?;
                self.ends_in_time(&[Transfer {
                    rx_len: len,
                    ..Transfer::default()
                }])?;
                let bytes = self.device.read(len);
                let bytes = bytes.map_err(|errno| io_error("cannot read", errno))?;
                Ok(encode_read_answer(&bytes))
            }
        }
    }

    fn transfer(&self, transfers: &[Transfer]) -> Answer {
        // The kernel counts too; before that there is room for what it receives.
        let received = transfers.iter().try_fold(0_usize, |sum, one| {
            sum.checked_add(usize::try_from(one.rx_len).ok()?)
        });
        self.fits(received.unwrap_or(usize::MAX))?;
        self.fits(transfers.iter().map(|one| one.tx.len()).sum())?;
        let idle: u64 = transfers.iter().map(|one| u64::from(one.idle_len)).sum();
        if idle > MAX_IDLE {
            let text = "more than goes by of which nothing is sent or kept";
            return Err(Refused::io(text, Errno::EMSGSIZE));
        }
        self.ends_in_time(transfers)?;
        let received = self.device.message(transfers);
        let received = received.map_err(|errno| io_error("cannot transfer", errno))?;
        Ok(encode_received(&received))
    }

    /// So many bytes are not more than spidev takes each way.
    fn fits(&self, bytes: usize) -> Result<(), Refused> {
        match u32::try_from(bytes) {
            Ok(bytes) if bytes <= self.bufsiz => Ok(()),
            Ok(_) | Err(_) => Err(Refused::io(
                "more than the kernel's spidev takes at a time",
                Errno::EMSGSIZE,
            )),
        }
    }

    /// The message does not keep the bus for longer than a peer may.
    fn ends_in_time(&self, transfers: &[Transfer]) -> Result<(), Refused> {
        let micros = bus_us(transfers, &self.settings()?);
        if micros <= MAX_BUS_US {
            return Ok(());
        }
        let seconds = micros.div_ceil(1_000_000);
        let text = format!("the message would take the bus for {seconds} s");
        Err(Refused::io(&text, Errno::EINVAL))
    }

    fn settings(&self) -> Result<Settings, Refused> {
        let settings = self.device.settings();
        settings.map_err(|errno| io_error("cannot read the device's settings", errno))
    }

    /// All of it, or nothing.
    fn configure(&self, change: &Change) -> Result<(), Refused> {
        let before = self.settings()?;
        self.apply(change, before.mode).map_err(|errno| {
            self.put_back(&before);
            io_error("cannot set the device up", errno)
        })
    }

    fn apply(&self, change: &Change, before: u32) -> Result<(), Errno> {
        self.set(change.mode_after(before), change.bits, change.hz)
    }

    /// Sets all that can be set. A controller may take a mode only with other bits of a word.
    ///
    /// # Errors
    /// The first refusal.
    fn set(&self, mode: Option<u32>, bits: Option<u8>, hz: Option<u32>) -> Result<(), Errno> {
        let set_mode = || mode.map_or(Ok(()), |mode| self.device.set_mode(mode));
        let first = set_mode();
        let bits = bits.map_or(Ok(()), |bits| self.device.set_bits(bits));
        let hz = hz.map_or(Ok(()), |hz| self.device.set_hz(hz));
        let mode = first.or_else(|errno| set_mode().map_err(|_| errno));
        mode.and(bits).and(hz)
    }

    fn put_back(&self, settings: &Settings) {
        // What cannot be read is set.
        let now = self.device.settings().ok();
        let done = self.set(
            now.is_none_or(|now| now.mode != settings.mode)
                .then_some(settings.mode),
            now.is_none_or(|now| now.bits != settings.bits)
                .then_some(settings.bits),
            (settings.hz > 0 && now.is_none_or(|now| now.hz != settings.hz)).then_some(settings.hz),
        );
        match done {
            // It has left.
            Ok(()) | Err(Errno::ESHUTDOWN | Errno::ENODEV) => {}
            Err(errno) => {
                let place = &self.place;
                warn!(place, %errno, "cannot put the settings of an SPI device back");
            }
        }
    }
}

/// The settings of a request that opens a device. A clock of 0 Hz leaves that.
fn change(settings: &Settings) -> Change {
    Change {
        bits: Some(settings.bits),
        hz: (settings.hz > 0).then_some(settings.hz),
        ..Change::of_mode(settings.mode, false)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.put_back(&self.first);
    }
}
