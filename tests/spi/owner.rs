//! The server half, as any peer may speak to it.

use std::time::Duration;

use myclerk::bus::fake::FakeSession;
use myclerk::bus::spi::fake::{FIRST, FakeSpi};
use myclerk::bus::spi::op::{
    Change, OpenRequest, Opened, Settings, Transfer, decode_read_answer, decode_received,
    encode_empty, encode_read, encode_transfer, encode_write,
};
use myclerk::bus::spi::server::OWNED;
use myclerk::bus::{AskError, BusStream, Inbound, Opener as _, Outgoing};
use myclerk::wire::class::Class;
use myclerk::wire::error::ErrorMap;
use myclerk::wire::opcode::Opcode;
use myclerk::wire::status::Status;
use nix::errno::Errno;

use crate::rig::{PATIENCE, run, until};

const SETTINGS: Settings = Settings {
    mode: 0,
    bits: 16,
    hz: 1000,
};

async fn open(session: &FakeSession, keep: bool) -> Result<(Opened, BusStream), AskError> {
    let request = OpenRequest {
        dev: "spi:spidev0.0".to_owned(),
        settings: SETTINGS,
        keep,
    };
    let payload = request.encode().unwrap();
    let (answer, stream) = session
        .open(Opcode::SpiDeviceOpen, payload, PATIENCE)
        .await?;
    Ok((Opened::decode(&answer).unwrap(), stream))
}

fn send(stream: &BusStream, opcode: Opcode, payload: Vec<u8>) -> u32 {
    let outgoing = Outgoing {
        opcode,
        class: Class::Interactive,
        payload,
        reply_len: 64,
        timeout_ms: 0,
        deadline_ms: 0,
    };
    stream.outlet.request(outgoing).unwrap()
}

async fn answer(stream: &mut BusStream) -> (u32, Result<Vec<u8>, (Status, ErrorMap)>) {
    match stream.inbound.recv().await {
        Some(Inbound::Response {
            corr,
            status,
            payload,
            ..
        }) if status.is_success() => (corr, Ok(payload)),
        Some(Inbound::Response {
            corr,
            status,
            payload,
            ..
        }) => (corr, Err((status, ErrorMap::decode(&payload).unwrap()))),
        other => panic!("{other:?} instead of an answer"),
    }
}

async fn ask(
    stream: &mut BusStream,
    opcode: Opcode,
    payload: Vec<u8>,
) -> Result<Vec<u8>, (Status, ErrorMap)> {
    let corr = send(stream, opcode, payload);
    let (of, answer) = answer(stream).await;
    assert_eq!(of, corr);
    answer
}

#[test]
fn a_device_is_set_up_used_and_given_back_as_it_was() {
    run(async {
        let chip = FakeSpi::loopback();
        let (opened, mut stream) = open(&chip.session(), false).await.unwrap();
        assert_eq!((opened.settings, chip.settings()), (SETTINGS, SETTINGS));
        let ext = opened.ext.unwrap();
        assert_eq!((ext.entries, ext.bufsiz, ext.flags), (511, 4096, 0x3_EFF0));
        let change = Change {
            hz: Some(7),
            lsb: Some(true),
            ..Change::default()
        };
        let told = ask(&mut stream, Opcode::SpiConfigure, change.encode().unwrap())
            .await
            .unwrap();
        let told = Opened::decode(&told).unwrap();
        assert_eq!(
            told.settings,
            Settings {
                mode: 8,
                bits: 16,
                hz: 7
            }
        );
        let both = Transfer {
            tx: vec![1, 2],
            rx_len: 2,
            ..Transfer::default()
        };
        let got = ask(&mut stream, Opcode::SpiTransfer, encode_transfer(&[both]))
            .await
            .unwrap();
        assert_eq!(decode_received(&got, &[2]), Ok(vec![1, 2]));
        ask(&mut stream, Opcode::SpiWrite, encode_write(&[3, 4]))
            .await
            .unwrap();
        let got = ask(&mut stream, Opcode::SpiRead, encode_read(2))
            .await
            .unwrap();
        assert_eq!(decode_read_answer(&got, 2), Ok(&[0, 0][..]));
        ask(&mut stream, Opcode::SpiDeviceClose, encode_empty())
            .await
            .unwrap();
        assert_eq!((chip.settings(), chip.opened()), (FIRST, 0));
    });
}

#[test]
fn a_peer_that_wants_it_so_finds_the_device_as_it_is() {
    run(async {
        let chip = FakeSpi::loopback();
        let (opened, _stream) = open(&chip.session(), true).await.unwrap();
        assert_eq!((opened.settings, chip.settings()), (FIRST, FIRST));
    });
}

#[test]
fn settings_are_all_taken_or_none_is() {
    run(async {
        let chip = FakeSpi::loopback();
        let (_, mut stream) = open(&chip.session(), false).await.unwrap();
        let change = Change {
            hz: Some(7),
            bits: Some(99),
            ..Change::of_mode(1, false)
        };
        let refused = ask(&mut stream, Opcode::SpiConfigure, change.encode().unwrap()).await;
        let (status, error) = refused.unwrap_err();
        assert_eq!(
            (status, error.sub.as_ref()),
            (Status::InternalError, "device-io")
        );
        assert_eq!(chip.settings(), SETTINGS);
    });
}

#[test]
fn requests_are_performed_in_their_order_and_what_is_cancelled_is_not() {
    run(async {
        let chip = FakeSpi::loopback();
        let (_, mut stream) = open(&chip.session(), true).await.unwrap();
        chip.hold();
        let first = send(&stream, Opcode::SpiRead, encode_read(1));
        let second = send(&stream, Opcode::SpiRead, encode_read(2));
        let third = send(&stream, Opcode::SpiRead, encode_read(3));
        until(|| chip.waiting() == 1).await;
        stream.outlet.cancel(second);
        let (corr, refused) = answer(&mut stream).await;
        assert_eq!((corr, refused.unwrap_err().0), (second, Status::Timeout));
        // One that is on the bus is answered at once and finished all the same.
        stream.outlet.cancel(first);
        let (corr, refused) = answer(&mut stream).await;
        assert_eq!((corr, refused.unwrap_err().0), (first, Status::Timeout));
        stream.outlet.cancel(first);
        chip.release();
        let (corr, got) = answer(&mut stream).await;
        assert_eq!((corr, got.is_ok()), (third, true));
        let lengths: Vec<_> = chip.messages().iter().map(|one| one[0].rx_len).collect();
        assert_eq!(lengths, [1, 3]);
    });
}

#[test]
fn a_peer_that_gives_up_its_closing_has_closed_all_the_same() {
    run(async {
        let chip = FakeSpi::loopback();
        let (_, mut stream) = open(&chip.session(), false).await.unwrap();
        chip.hold();
        let read = send(&stream, Opcode::SpiRead, encode_read(2));
        let close = send(&stream, Opcode::SpiDeviceClose, encode_empty());
        until(|| chip.waiting() == 1).await;
        stream.outlet.cancel(read);
        let (corr, refused) = answer(&mut stream).await;
        assert_eq!((corr, refused.unwrap_err().0), (read, Status::Timeout));
        stream.outlet.cancel(close);
        chip.release();
        let (corr, closed) = answer(&mut stream).await;
        assert_eq!((corr, closed.is_ok()), (close, true));
        assert_eq!((chip.settings(), chip.opened()), (FIRST, 0));
    });
}

#[test]
fn nothing_is_made_room_for_that_the_kernel_would_refuse() {
    run(async {
        let chip = FakeSpi::loopback();
        let (_, mut stream) = open(&chip.session(), true).await.unwrap();
        let much = Transfer {
            rx_len: u32::MAX,
            ..Transfer::default()
        };
        for (opcode, payload) in [
            (Opcode::SpiRead, encode_read(u32::MAX)),
            (Opcode::SpiRead, encode_read(4097)),
            (Opcode::SpiWrite, encode_write(&[0; 4097])),
            (Opcode::SpiTransfer, encode_transfer(&vec![much; 400])),
        ] {
            let (status, error) = ask(&mut stream, opcode, payload).await.unwrap_err();
            let detail = error
                .detail
                .as_ref()
                .and_then(myclerk::wire::msgpack::Value::as_i64);
            assert_eq!(
                (status, detail),
                (Status::InternalError, Some(Errno::EMSGSIZE as i64))
            );
        }
        assert!(chip.messages().is_empty());
    });
}

#[test]
fn a_message_that_would_keep_the_bus_for_more_than_a_minute_is_refused() {
    run(async {
        let chip = FakeSpi::loopback();
        let (_, mut stream) = open(&chip.session(), true).await.unwrap();
        let slow = Change {
            hz: Some(1),
            ..Change::default()
        };
        let slow = slow.encode().unwrap();
        ask(&mut stream, Opcode::SpiConfigure, slow).await.unwrap();
        let idle = |idle_len, hz| {
            let transfer = Transfer {
                idle_len,
                hz,
                ..Transfer::default()
            };
            encode_transfer(&[transfer])
        };
        for (opcode, payload, errno) in [
            (Opcode::SpiRead, encode_read(8), Errno::EINVAL),
            (Opcode::SpiWrite, encode_write(&[0; 8]), Errno::EINVAL),
            (Opcode::SpiTransfer, idle(8, 0), Errno::EINVAL),
            (Opcode::SpiTransfer, idle(400_000, 10_000), Errno::EINVAL),
            (
                Opcode::SpiTransfer,
                idle(1 << 20, u32::MAX),
                Errno::EMSGSIZE,
            ),
        ] {
            let (_, error) = ask(&mut stream, opcode, payload).await.unwrap_err();
            let detail = error.detail.as_ref();
            let detail = detail.and_then(myclerk::wire::msgpack::Value::as_i64);
            assert_eq!(detail, Some(errno as i64), "{:?}", error.msg);
        }
        assert!(chip.messages().is_empty());
        for (opcode, payload) in [
            (Opcode::SpiRead, encode_read(7)),
            (Opcode::SpiTransfer, idle(400_000, 1_000_000)),
        ] {
            ask(&mut stream, opcode, payload).await.unwrap();
        }
    });
}

#[test]
fn a_mode_that_goes_only_with_other_bits_is_set_and_put_back() {
    run(async {
        let chip = FakeSpi::loopback();
        chip.refuse(|settings| settings.mode == FIRST.mode && settings.bits == 16);
        let (_, mut stream) = open(&chip.session(), false).await.unwrap();
        assert_eq!(chip.settings(), SETTINGS);
        let change = Change {
            bits: Some(FIRST.bits),
            ..Change::of_mode(FIRST.mode, false)
        };
        let change = change.encode().unwrap();
        ask(&mut stream, Opcode::SpiConfigure, change)
            .await
            .unwrap();
        assert_eq!((chip.settings().mode, chip.settings().bits), (3, 8));
        ask(&mut stream, Opcode::SpiDeviceClose, encode_empty())
            .await
            .unwrap();

        let (_, mut stream) = open(&chip.session(), false).await.unwrap();
        ask(&mut stream, Opcode::SpiDeviceClose, encode_empty())
            .await
            .unwrap();
        assert_eq!(chip.settings(), FIRST);
    });
}

#[test]
fn what_can_be_put_back_is_where_the_rest_is_refused() {
    run(async {
        let chip = FakeSpi::loopback();
        let (_, mut stream) = open(&chip.session(), false).await.unwrap();
        chip.refuse(|settings| settings.mode == FIRST.mode);
        ask(&mut stream, Opcode::SpiDeviceClose, encode_empty())
            .await
            .unwrap();
        let settings = Settings { mode: 0, ..FIRST };
        assert_eq!(chip.settings(), settings);
    });
}

#[test]
fn what_is_no_request_of_this_bus_is_refused_and_the_next_is_served() {
    run(async {
        let chip = FakeSpi::loopback();
        let (_, mut stream) = open(&chip.session(), true).await.unwrap();
        for (opcode, payload) in [
            (Opcode::SpiTransfer, vec![0xC0]),
            (Opcode::SpiTransfer, vec![]),
            (Opcode::SpiRead, vec![0x90]),
            (Opcode::SpiWrite, vec![0x91, 0x01]),
            (Opcode::SpiConfigure, vec![0x91]),
            (Opcode::SpiDeviceClose, vec![0x01]),
            (Opcode::I2cTransfer, vec![0x80]),
        ] {
            let (status, _) = ask(&mut stream, opcode, payload).await.unwrap_err();
            assert_eq!(status, Status::BadRequest, "{opcode}");
        }
        ask(&mut stream, Opcode::SpiWrite, encode_write(&[1]))
            .await
            .unwrap();
    });
}

#[test]
fn opening_needs_a_device_that_is_there_and_the_right_to_write() {
    run(async {
        let chip = FakeSpi::loopback();
        let session = chip.session();
        let nonsense = session
            .open(Opcode::SpiDeviceOpen, vec![0x80], Duration::from_secs(1))
            .await;
        assert!(matches!(
            nonsense.err(),
            Some(AskError::Refused {
                status: Status::BadRequest,
                ..
            })
        ));
        // Settings that the controller cannot do: the device is as before.
        chip.fail(Errno::EINVAL);
        assert!(open(&session, false).await.is_err());
        until(|| chip.opened() == 0).await;
        assert_eq!(chip.settings(), FIRST);
        chip.unplug();
        let gone = open(&session, false).await.err();
        assert!(matches!(
            gone,
            Some(AskError::Refused {
                status: Status::ServiceUnavailable,
                ..
            })
        ));
        let payload = OpenRequest {
            dev: "spi:x".to_owned(),
            settings: SETTINGS,
            keep: false,
        };
        let wanted = (OWNED.wanted)(Opcode::SpiDeviceOpen, &payload.encode().unwrap()).unwrap();
        assert!(wanted.write && wanted.device == "spi:x");
        assert!((OWNED.wanted)(Opcode::SpiTransfer, &[]).is_err());
    });
}

#[test]
fn a_chip_that_left_ends_the_stream() {
    run(async {
        let chip = FakeSpi::loopback();
        let (_, mut stream) = open(&chip.session(), true).await.unwrap();
        chip.unplug();
        let (status, error) = ask(&mut stream, Opcode::SpiRead, encode_read(1))
            .await
            .unwrap_err();
        assert_eq!(
            (status, error.sub.as_ref()),
            (Status::ServiceUnavailable, "device-gone")
        );
        let end = stream.inbound.recv().await;
        assert_eq!(
            end,
            Some(Inbound::Reset {
                status: Status::ServiceUnavailable
            })
        );
        until(|| chip.opened() == 0).await;
    });
}

#[test]
fn a_chip_that_nobody_asks_for_anything_is_missed_too() {
    run(async {
        let chip = FakeSpi::loopback();
        let (_, mut stream) = open(&chip.session(), true).await.unwrap();
        tokio::time::pause();
        chip.unplug();
        let end = stream.inbound.recv().await;
        let status = Status::ServiceUnavailable;
        assert_eq!(end, Some(Inbound::Reset { status }));
    });
}
