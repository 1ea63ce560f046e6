//! What the tests of this bus have in common.

use std::time::Duration;

use myclerk::bus::fake::FakeSession;
use myclerk::bus::i2c::op::{Message, Smbus, SmbusCommand, Transfer, decode_data};
use myclerk::bus::{AskError, Opener};
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::sub;
use nix::errno::Errno;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const EEPROM: u16 = 0x50;
pub(crate) const LM75: u16 = 0x48;
pub(crate) const STRICT: u16 = 0x30;
pub(crate) const CHECKED: u16 = 0x20;

pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("the test hangs")
    })
}

/// Why the owner did not do it: the errno of the bus, or else a sub-code.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Bus(Errno),
    Sub(String),
}

pub(crate) async fn ask(
    session: &FakeSession,
    opcode: Opcode,
    payload: Vec<u8>,
) -> Result<Vec<u8>, Why> {
    match session.call(opcode, payload, PATIENCE).await {
        Ok(answer) => Ok(answer),
        Err(AskError::Refused { error, .. }) => {
            let errno = error.detail.as_ref().and_then(|detail| detail.as_i64());
            let errno = errno.filter(|_| error.sub == sub::DEVICE_IO);
            Err(match errno {
                Some(errno) => Why::Bus(Errno::from_raw(i32::try_from(errno.abs()).unwrap())),
                None => Why::Sub(error.sub.to_string()),
            })
        }
        Err(other) => panic!("{other}"),
    }
}

pub(crate) async fn transfer(
    session: &FakeSession,
    messages: Vec<Message>,
) -> Result<Vec<Vec<u8>>, Why> {
    let request = Transfer {
        dev: "i2c:fake".to_owned(),
        messages,
    };
    let answer = ask(session, Opcode::I2cTransfer, request.encode()).await?;
    Ok(request.decode_reply(&answer).unwrap())
}

pub(crate) fn command(addr: u16, command: u8, smbus: Smbus) -> SmbusCommand {
    SmbusCommand {
        dev: "i2c:fake".to_owned(),
        addr,
        ten_bit: false,
        force: false,
        pec: false,
        command,
        smbus,
    }
}

pub(crate) async fn smbus(session: &FakeSession, command: &SmbusCommand) -> Result<Vec<u8>, Why> {
    let answer = ask(session, Opcode::I2cSmbusCommand, command.encode()).await?;
    let (least, most) = command.smbus.reply_len();
    Ok(decode_data(&answer, least, most).unwrap().to_vec())
}
