//! SPI devices for the tests of both halves: MOSI wired to MISO, or a flash chip.

pub mod flash;

use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::enumerate;
use super::hardware::{SpiDevice, SpiHost};
use super::op::{Settings, Transfer, mode};
use super::server;
use crate::bus::fake::{FakeSession, OPENING};
use crate::bus::{Grant, Present, Refused};
use crate::kernel::spidev::DEFAULT_BUFSIZ;

use flash::Flash;

/// How the device is spoken to when nobody has said anything.
pub const FIRST: Settings = Settings {
    mode: mode::CPHA | mode::CPOL,
    bits: 8,
    hz: 10_000_000,
};

/// A machine with one device, `spidev0.0`. Clones are the same machine.
#[derive(Clone)]
pub struct FakeSpi {
    inner: Arc<Mutex<Inner>>,
    go_on: Arc<Condvar>,
}

struct Inner {
    settings: Settings,
    /// `None`: MOSI is wired to MISO.
    flash: Option<Flash>,
    messages: Vec<Vec<Transfer>>,
    opened: usize,
    bufsiz: u32,
    fail: Option<Errno>,
    refused: fn(&Settings) -> bool,
    gone: bool,
    held: bool,
    waiting: usize,
}

impl FakeSpi {
    /// What is sent is received.
    pub fn loopback() -> Self {
        Self::new(None)
    }

    /// A flash chip of 1 MiB.
    pub fn flash() -> Self {
        Self::new(Some(Flash::default()))
    }

    fn new(flash: Option<Flash>) -> Self {
        let inner = Inner {
            settings: FIRST,
            flash,
            messages: Vec::new(),
            opened: 0,
            bufsiz: DEFAULT_BUFSIZ,
            fail: None,
            refused: |_| false,
            gone: false,
            held: false,
            waiting: 0,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            go_on: Arc::default(),
        }
    }

    /// How the device is spoken to now.
    pub fn settings(&self) -> Settings {
        self.inner().settings
    }

    /// The messages so far, also those of read and write.
    pub fn messages(&self) -> Vec<Vec<Transfer>> {
        self.inner().messages.clone()
    }

    /// How many have the device open.
    pub fn opened(&self) -> usize {
        self.inner().opened
    }

    /// What a flash chip holds.
    pub fn memory(&self) -> Vec<u8> {
        let inner = self.inner();
        inner.flash.as_ref().map(Flash::memory).unwrap_or_default()
    }

    /// The most bytes of one message each way.
    pub fn set_bufsiz(&self, bufsiz: u32) {
        self.inner().bufsiz = bufsiz;
    }

    /// The next call fails so.
    pub fn fail(&self, errno: Errno) {
        self.inner().fail = Some(errno);
    }

    /// The controller cannot do these settings.
    pub fn refuse(&self, refused: fn(&Settings) -> bool) {
        self.inner().refused = refused;
    }

    /// The device leaves the kernel.
    pub fn unplug(&self) {
        self.inner().gone = true;
    }

    /// Messages wait until [`FakeSpi::release`].
    pub fn hold(&self) {
        self.inner().held = true;
    }

    /// Those that wait go on.
    pub fn release(&self) {
        self.inner().held = false;
        self.go_on.notify_all();
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.inner().waiting
    }

    /// The device as the owner's daemon knows it.
    pub fn present(&self) -> Present {
        enumerate::device("spidev0.0".to_owned(), None, self.inner().bufsiz)
    }

    /// A session with the server half of this machine, whose peer may do everything. To be used in a
    /// `LocalSet`.
    pub fn session(&self) -> Rc<FakeSession> {
        let machine = self.clone();
        FakeSession::new(
            move |opened| {
                let grant = Grant {
                    corr: OPENING,
                    opcode: opened.opcode,
                    payload: opened.payload,
                    present: machine.present(),
                    write: true,
                    quiet: true,
                };
                let host = Arc::new(machine.clone());
                tokio::task::spawn_local(server::serve(host, grant, opened.stream));
            },
            |opcode, _| Err(Refused::unsupported(format!("{opcode} is no SPI call"))),
        )
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ready(&self) -> Result<MutexGuard<'_, Inner>, Errno> {
        let mut inner = self.inner();
        if inner.gone {
            return Err(Errno::ESHUTDOWN);
        }
        inner.fail.take().map_or(Ok(inner), Err)
    }
}

impl SpiHost for FakeSpi {
    fn open(&self, _: &str) -> Result<Box<dyn SpiDevice>, Errno> {
        let mut inner = self.inner();
        if inner.gone {
            return Err(Errno::ENOENT);
        }
        inner.opened += 1;
        Ok(Box::new(FakeDevice(self.clone())))
    }

    fn bufsiz(&self) -> u32 {
        self.inner().bufsiz
    }
}

struct FakeDevice(FakeSpi);

impl Drop for FakeDevice {
    fn drop(&mut self) {
        self.0.inner().opened -= 1;
    }
}

impl SpiDevice for FakeDevice {
    fn settings(&self) -> Result<Settings, Errno> {
        Ok(self.0.ready()?.settings)
    }

    fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        // A controller without a line by which the chip says that it is ready.
        const READY: u32 = 1 << 7;
        let mut inner = self.0.ready()?;
        if mode & !mode::ALL != 0 || mode & READY != 0 {
            return Err(Errno::EINVAL);
        }
        let settings = inner.settings;
        inner.set(Settings { mode, ..settings })
    }

    fn set_bits(&self, bits: u8) -> Result<(), Errno> {
        let mut inner = self.0.ready()?;
        let bits = match bits {
            0 => 8,
            4..=32 => bits,
            _ => return Err(Errno::EINVAL),
        };
        let settings = inner.settings;
        inner.set(Settings { bits, ..settings })
    }

    fn set_hz(&self, hz: u32) -> Result<(), Errno> {
        let mut inner = self.0.ready()?;
        if hz == 0 {
            return Err(Errno::EINVAL);
        }
        let settings = inner.settings;
        inner.set(Settings { hz, ..settings })
    }

    fn message(&self, transfers: &[Transfer]) -> Result<Vec<Vec<u8>>, Errno> {
        let mut inner = self.0.ready()?;
        inner.waiting += 1;
        let wait = |inner: &mut Inner| inner.held;
        let mut inner = self
            .0
            .go_on
            .wait_while(inner, wait)
            .unwrap_or_else(PoisonError::into_inner);
        inner.waiting -= 1;
        inner.perform(transfers)
    }

    fn read(&self, len: u32) -> Result<Vec<u8>, Errno> {
        let transfer = Transfer {
            rx_len: len,
            ..Transfer::default()
        };
        let received = self.message(&[transfer])?;
        Ok(received.into_iter().next().unwrap_or_default())
    }

    fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let transfer = Transfer {
            tx: bytes.to_vec(),
            ..Transfer::default()
        };
        self.message(&[transfer])?;
        Ok(bytes.len())
    }
}

impl Inner {
    fn set(&mut self, settings: Settings) -> Result<(), Errno> {
        if (self.refused)(&settings) {
            return Err(Errno::EINVAL);
        }
        self.settings = settings;
        Ok(())
    }

    fn perform(&mut self, transfers: &[Transfer]) -> Result<Vec<Vec<u8>>, Errno> {
        let words = transfers.iter().all(|transfer| {
            let bits = match transfer.bits {
                0 => self.settings.bits,
                bits => bits,
            };
            let bytes = usize::from(bits).div_ceil(8).next_power_of_two();
            transfer.len().is_multiple_of(bytes)
        });
        if !words {
            return Err(Errno::EINVAL);
        }
        self.messages.push(transfers.to_vec());
        let Some(flash) = &mut self.flash else {
            return Ok(transfers.iter().map(looped).collect());
        };
        let mut received = Vec::new();
        for (transfer, left) in transfers.iter().zip((0..transfers.len()).rev()) {
            received.push(flash.transfer(transfer));
            // At the end it says that the chip stays selected, before that the other way round.
            if transfer.cs_change != (left == 0) {
                flash.deselect();
            }
        }
        Ok(received)
    }
}

fn looped(transfer: &Transfer) -> Vec<u8> {
    let len = usize::try_from(transfer.rx_len).unwrap_or_default();
    if transfer.tx.is_empty() {
        return vec![0; len];
    }
    transfer.tx.iter().copied().take(len).collect()
}
