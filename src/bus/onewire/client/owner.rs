//! The bus, through the session with its owner.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use nix::errno::Errno;
use tokio::time::{Instant, sleep};

use crate::bus::adapter::ds2490::{Answer, Begin, OnewireBus, Transaction};
use crate::bus::onewire::op::{
    BusList, BusRequest, Data, Found, MatchRom, OpError, Read, Rom, RomAnswer, Search, Select,
    Write, encode_empty,
};
use crate::bus::remote::Remote;
use crate::bus::{AskError, AttachError, Opener};
use crate::wire::error::ErrorMap;
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// How long the owner has for a transaction: its kernel may be searching the bus.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long for a search.
const SEARCHING: Duration = Duration::from_secs(30);
/// How long another session's transaction is waited for. One that is not gone on with ends after a
/// second.
const BUSY: Duration = Duration::from_secs(3);
/// Between two attempts meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

const READ_ROM: u8 = 0x33;
const CODE: usize = 8;

/// A remote bus.
#[derive(Clone)]
pub struct Owner(Rc<Inner>);

struct Inner {
    remote: Rc<Remote>,
    /// Whether the owner writes and reads in one request; asked anew after each loss of the session.
    joins: Cell<Option<bool>>,
}

impl Owner {
    /// What the owner says of the bus of that remote device.
    ///
    /// # Errors
    /// It does not answer, or has no such bus.
    pub async fn new(opener: &dyn Opener, remote: Rc<Remote>) -> Result<Self, AttachError> {
        let answer = opener
            .call(Opcode::OnewireBusList, encode_empty(), PATIENCE)
            .await?;
        let joins = announced(&answer, remote.device())
            .map_err(|error| AttachError::Answer(error.to_string()))?
            .ok_or_else(|| {
                AttachError::Ask(AskError::Refused {
                    status: Status::NotFound,
                    error: ErrorMap::new(sub::DEVICE),
                })
            })?;
        let joins = Cell::new(Some(joins));
        Ok(Self(Rc::new(Inner { remote, joins })))
    }
}

/// Whether the owner of a bus announced that writing and reading are one request; `None` when it has no
/// such bus.
fn announced(answer: &[u8], device: &str) -> Result<Option<bool>, OpError> {
    let list = BusList::decode(answer)?;
    let bus = list.buses.into_iter().find(|bus| bus.dev == device);
    Ok(bus.map(|bus| bus.wr))
}

impl OnewireBus for Owner {
    fn search(&self, alarm: bool) -> Answer<Vec<Rom>> {
        let inner = Rc::clone(&self.0);
        Box::pin(async move {
            let dev = inner.dev();
            let request = Search { dev, alarm }.encode();
            let answer = inner
                .patient(Opcode::OnewireSearch, request, SEARCHING)
                .await?;
            let found = Found::decode(&answer).map_err(senseless)?;
            Ok(found.roms)
        })
    }

    fn run(&self, transaction: Transaction) -> Answer<Vec<u8>> {
        let inner = Rc::clone(&self.0);
        Box::pin(async move {
            let done = inner.run(transaction).await;
            if done == Err(Errno::ETIMEDOUT) {
                inner.joins.set(None);
            }
            done
        })
    }
}

impl Inner {
    fn dev(&self) -> String {
        self.remote.device().to_owned()
    }

    /// Whether the owner announced that writing and reading are one request.
    async fn joins(&self) -> Result<bool, Errno> {
        if let Some(joins) = self.joins.get() {
            return Ok(joins);
        }
        let asked = self
            .remote
            .call(Opcode::OnewireBusList, encode_empty(), PATIENCE);
        let answer = asked.await?;
        let joins = announced(&answer, self.remote.device()).map_err(senseless)?;
        let joins = joins.ok_or(Errno::ENODEV)?;
        self.joins.set(Some(joins));
        Ok(joins)
    }

    async fn run(&self, transaction: Transaction) -> Result<Vec<u8>, Errno> {
        let joins = self.joins().await?;
        let Transaction {
            begin,
            write,
            read,
            pullup_ms,
        } = transaction;
        let select = match begin {
            Begin::Select(select) => Some(select),
            Begin::Reset => {
                self.reset().await?;
                if write == [READ_ROM] && read == CODE {
                    return self.read_rom().await;
                }
                None
            }
            Begin::GoOn => None,
        };
        // What is not announced may not go on after an operation that addressed by itself.
        let select = match select {
            Some(select) if !joins => {
                self.reset().await?;
                self.address(select).await?;
                None
            }
            select => select,
        };
        if read == 0 {
            self.write(write, select, pullup_ms).await?;
            return Ok(Vec::new());
        }
        if !joins && !write.is_empty() {
            self.write(write, None, 0).await?;
            return self.read(Vec::new(), None, read).await;
        }
        self.read(write, select, read).await
    }

    async fn reset(&self) -> Result<(), Errno> {
        let request = BusRequest { dev: self.dev() }.encode();
        let asked = self.patient(Opcode::OnewireReset, request, PATIENCE);
        asked.await.map(|_| ())
    }

    async fn read_rom(&self) -> Result<Vec<u8>, Errno> {
        let request = BusRequest { dev: self.dev() }.encode();
        let asked = self.remote.call(Opcode::OnewireReadRom, request, PATIENCE);
        let answer = RomAnswer::decode(&asked.await?).map_err(senseless)?;
        Ok(answer.rom.0.to_vec())
    }

    async fn address(&self, select: Select) -> Result<(), Errno> {
        let dev = self.dev();
        let (opcode, request) = match select {
            Select::Rom(rom) => (Opcode::OnewireMatchRom, MatchRom { dev, rom }.encode()),
            Select::Skip => (Opcode::OnewireSkipRom, BusRequest { dev }.encode()),
        };
        let asked = self.remote.call(opcode, request, PATIENCE);
        asked.await.map(|_| ())
    }

    async fn write(
        &self,
        data: Vec<u8>,
        select: Option<Select>,
        pullup_ms: u32,
    ) -> Result<(), Errno> {
        let request = Write {
            dev: self.dev(),
            data,
            select,
            pullup_ms,
        };
        let request = request.encode();
        let done = self.transfer(Opcode::OnewireWrite, request, select).await;
        if done == Err(Errno::EOPNOTSUPP) && pullup_ms > 0 {
            tracing::warn!(
                device = self.remote.device(),
                "the owner has no strong pull-up: what takes its power from the bus cannot be used"
            );
        }
        done.map(|_| ())
    }

    async fn read(
        &self,
        before: Vec<u8>,
        select: Option<Select>,
        count: usize,
    ) -> Result<Vec<u8>, Errno> {
        let request = Read {
            dev: self.dev(),
            count,
            select,
            before,
        };
        let request = request.encode();
        let answer = self.transfer(Opcode::OnewireRead, request, select).await?;
        let data = Data::decode(&answer, count).map_err(senseless)?;
        Ok(data.data)
    }

    async fn transfer(
        &self,
        opcode: Opcode,
        request: Vec<u8>,
        select: Option<Select>,
    ) -> Result<Vec<u8>, Errno> {
        if select.is_some() {
            self.patient(opcode, request, PATIENCE).await
        } else {
            self.remote.call(opcode, request, PATIENCE).await
        }
    }

    /// Begins something, when it is our turn.
    async fn patient(
        &self,
        opcode: Opcode,
        request: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, Errno> {
        let until = Instant::now() + BUSY;
        loop {
            let done = self.remote.call(opcode, request.clone(), timeout).await;
            if done != Err(Errno::EBUSY) || Instant::now() >= until {
                return done;
            }
            sleep(PAUSE).await;
        }
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err wants"
)]
fn senseless(error: OpError) -> Errno {
    tracing::warn!(%error, "the owner of a 1-Wire bus answered without sense");
    Errno::EPROTO
}
