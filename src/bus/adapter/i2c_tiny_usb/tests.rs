//! The driver's control transfers in, transactions out.

use tokio::task::LocalSet;

use super::*;
use crate::bus::adapter::fake::Host;

const STALLED: i32 = -libc::EPIPE;

/// A bus that keeps its transactions and answers each read with the number of the transaction.
#[derive(Default)]
struct Bus {
    seen: RefCell<Vec<Vec<Message>>>,
    fails: Cell<Option<Errno>>,
    functionality: u32,
}

impl Master for Bus {
    fn functionality(&self) -> u32 {
        self.functionality
    }

    fn transfer(self: Rc<Self>, messages: Vec<Message>) -> Transacting {
        let mut seen = self.seen.borrow_mut();
        let number = u8::try_from(seen.len() + 1).unwrap();
        let read = messages.iter().filter_map(|message| match message.action {
            Action::Read(length) => Some(vec![number; usize::from(length)]),
            Action::Write(_) => None,
        });
        let answer = match self.fails.get() {
            Some(errno) => Err(errno),
            None => Ok(read.collect()),
        };
        seen.push(messages);
        drop(seen);
        Box::pin(core::future::ready(answer))
    }
}

async fn with<F: Future<Output = ()>>(bus: Bus, work: impl FnOnce(Rc<Bus>, Host) -> F) {
    LocalSet::new()
        .run_until(async {
            let bus = Rc::new(bus);
            let host = Host::plug_in(I2cTinyUsb::new(Default::default(), Rc::clone(&bus))).await;
            work(bus, host).await;
        })
        .await;
}

/// A message as the driver sends it, with its status.
async fn write(host: &Host, edges: u8, flags: u16, addr: u8, data: &[u8]) -> Result<u8, i32> {
    let [low, high] = flags.to_le_bytes();
    let length = u8::try_from(data.len()).unwrap();
    let setup = [0x41, IO | edges, low, high, addr, 0, length, 0];
    assert!(host.control(setup, data).await?.is_empty());
    status(host).await
}

async fn read(host: &Host, edges: u8, addr: u8, length: u8) -> Result<(Vec<u8>, u8), i32> {
    let setup = [0xC1, IO | edges, 1, 0, addr, 0, length, 0];
    Ok((host.control(setup, &[]).await?, status(host).await?))
}

async fn status(host: &Host) -> Result<u8, i32> {
    let status = host
        .control([0xC1, GET_STATUS, 0, 0, 0, 0, 1, 0], &[])
        .await?;
    Ok(status.first().copied().unwrap())
}

#[tokio::test]
async fn a_write_and_the_read_after_it_are_one_transaction() {
    with(Bus::default(), async |bus, host| {
        assert_eq!(write(&host, BEGIN, 0, 0x50, &[7]).await, Ok(ACKNOWLEDGED));
        assert!(bus.seen.borrow().is_empty());
        let answer = read(&host, END, 0x50, 3).await;
        assert_eq!(answer, Ok((vec![1; 3], ACKNOWLEDGED)));
        let messages = vec![Message::write(0x50, [7]), Message::read(0x50, 3)];
        assert_eq!(*bus.seen.borrow(), [messages]);
    })
    .await;
}

#[tokio::test]
async fn a_read_before_others_is_performed_with_those_before_it() {
    with(Bus::default(), async |bus, host| {
        write(&host, BEGIN, 0, 0x50, &[7]).await.unwrap();
        assert_eq!(read(&host, 0, 0x50, 1).await, Ok((vec![1], ACKNOWLEDGED)));
        assert_eq!(write(&host, 0, 0, 0x50, &[9]).await, Ok(ACKNOWLEDGED));
        assert_eq!(
            read(&host, END, 0x50, 2).await,
            Ok((vec![2; 2], ACKNOWLEDGED))
        );
        let first = vec![Message::write(0x50, [7]), Message::read(0x50, 1)];
        let second = vec![Message::write(0x50, [9]), Message::read(0x50, 2)];
        assert_eq!(*bus.seen.borrow(), [first, second]);
    })
    .await;
}

#[tokio::test]
async fn a_quick_command_is_a_message_without_bytes() {
    with(Bus::default(), async |bus, host| {
        assert_eq!(
            write(&host, BEGIN | END, 0, 0x48, &[]).await,
            Ok(ACKNOWLEDGED)
        );
        assert_eq!(*bus.seen.borrow(), [vec![Message::write(0x48, [])]]);
    })
    .await;
}

#[tokio::test]
async fn a_missing_acknowledge_is_a_status_and_other_failures_are_stalls() {
    with(Bus::default(), async |bus, host| {
        bus.fails.set(Some(Errno::ENXIO));
        let none = write(&host, BEGIN | END, 0, 0x48, &[1]).await;
        assert_eq!(none, Ok(NOT_ACKNOWLEDGED));
        let none = read(&host, BEGIN | END, 0x48, 2).await;
        assert_eq!(none, Ok((vec![0; 2], NOT_ACKNOWLEDGED)));
        bus.fails.set(Some(Errno::ETIMEDOUT));
        assert_eq!(read(&host, BEGIN | END, 0x48, 2).await, Err(STALLED));
        bus.fails.set(None);
        assert_eq!(
            write(&host, BEGIN | END, 0, 0x48, &[1]).await,
            Ok(ACKNOWLEDGED)
        );
    })
    .await;
}

#[tokio::test]
async fn what_the_kernel_notes_for_itself_is_no_flag_of_a_message() {
    with(Bus::default(), async |bus, host| {
        let written = write(&host, BEGIN | END, 0x0204, 0x48, &[1, 2]).await;
        assert_eq!(written, Ok(ACKNOWLEDGED));
        assert_eq!(*bus.seen.borrow(), [vec![Message::write(0x48, [1, 2])]]);
    })
    .await;
}

#[tokio::test]
async fn flags_are_carried_or_refused() {
    with(Bus::default(), async |bus, host| {
        write(&host, BEGIN | END, 0x5210, 0x48, &[1]).await.unwrap();
        let seen = bus.seen.take();
        let flags = MessageFlags::TEN_BIT | MessageFlags::IGNORE_NAK | MessageFlags::NO_START;
        let said = seen.iter().flatten().map(|message| message.flags);
        assert_eq!(said.collect::<Vec<_>>(), [flags]);
        // I2C_M_RECV_LEN, which the driver could not answer.
        assert_eq!(
            write(&host, BEGIN | END, 0x0400, 0x48, &[1]).await,
            Err(STALLED)
        );
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_was_left_half_done_is_forgotten() {
    with(Bus::default(), async |bus, host| {
        write(&host, BEGIN, 0, 0x50, &[7]).await.unwrap();
        write(&host, BEGIN | END, 0, 0x51, &[8]).await.unwrap();
        assert_eq!(*bus.seen.borrow(), [vec![Message::write(0x51, [8])]]);
        for _ in 0..MAX_MESSAGES {
            write(&host, 0, 0, 0x50, &[]).await.unwrap();
        }
        assert_eq!(write(&host, END, 0, 0x50, &[]).await, Err(STALLED));
    })
    .await;
}

#[tokio::test]
async fn only_what_messages_can_say_is_offered() {
    for (has, offered) in [
        (0xFFFF_FFFF, SAYABLE),
        // An SMBus without anything else: the kernel would append PEC bytes that it cannot send.
        (0x0EFF_0008, 0x0EFF_0000),
    ] {
        let bus = Bus {
            functionality: has,
            ..Bus::default()
        };
        with(bus, async |_, host| {
            let answer = host.control([0xC1, GET_FUNC, 0, 0, 0, 0, 4, 0], &[]).await;
            assert_eq!(answer, Ok(u32::to_le_bytes(offered).to_vec()));
        })
        .await;
    }
}
