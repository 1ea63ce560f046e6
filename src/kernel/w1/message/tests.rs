use proptest::prelude::*;

use super::*;

const ROM: [u8; 8] = [0x28, 1, 2, 3, 4, 5, 6, 0x77];

/// A `w1_netlink_msg` about bus 1 with one command in it, or none.
fn w1(status: u8, command: Option<(u8, &[u8])>) -> Vec<u8> {
    let mut commands = Vec::new();
    if let Some((code, data)) = command {
        commands.extend_from_slice(&[code, 0]);
        commands.extend_from_slice(&u16::try_from(data.len()).unwrap().to_ne_bytes());
        commands.extend_from_slice(data);
    }
    let mut out = vec![MASTER_CMD, status];
    out.extend_from_slice(&u16::try_from(commands.len()).unwrap().to_ne_bytes());
    out.extend_from_slice(&1_u32.to_ne_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&commands);
    out
}

/// A `cn_msg` with that in it.
fn cn(id: (u32, u32), number: u32, ack: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for long in [id.0, id.1, number, ack] {
        out.extend_from_slice(&long.to_ne_bytes());
    }
    out.extend_from_slice(&u16::try_from(body.len()).unwrap().to_ne_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(body);
    out
}

/// A message of the kernel with that in it.
fn nl(parts: &[Vec<u8>]) -> Vec<u8> {
    let body = parts.concat();
    let mut out = Vec::new();
    out.extend_from_slice(&u32::try_from(HEADER + body.len()).unwrap().to_ne_bytes());
    out.extend_from_slice(&DONE.to_ne_bytes());
    out.extend_from_slice(&[0; 10]);
    out.extend_from_slice(&body);
    out
}

/// The status of a command of request 7.
fn status(code: u8, status: u8) -> Vec<u8> {
    nl(&[cn(W1, 7, 0, &w1(status, Some((code, &[]))))])
}

/// Data of a command of request 7.
fn data(code: u8, data: &[u8]) -> Vec<u8> {
    nl(&[cn(W1, 7, 8, &w1(0, Some((code, data))))])
}

const COMMANDS: &[Command<'static>] = &[Command::Reset, Command::Write(&[0xCC]), Command::Read(2)];

#[test]
fn commands_stand_in_one_message() {
    let bytes = encode(7, 0x0102, COMMANDS).unwrap();
    let mut expected = Vec::new();
    for long in [63_u32, 3, 7, 0, 3, 1, 7, 0] {
        expected.extend_from_slice(&long.to_ne_bytes());
    }
    // The connector: length and flags; the message: kind, status, length, bus.
    expected.extend_from_slice(&27_u16.to_ne_bytes());
    expected.extend_from_slice(&[0, 0, MASTER_CMD, 0]);
    expected.extend_from_slice(&15_u16.to_ne_bytes());
    expected.extend_from_slice(&0x0102_u32.to_ne_bytes());
    expected.extend_from_slice(&[0; 4]);
    for (code, length, data) in [(5, 0, &[][..]), (1, 1, &[0xCC]), (0, 2, &[0, 0])] {
        expected.extend_from_slice(&[code, 0]);
        expected.extend_from_slice(&u16::to_ne_bytes(length));
        expected.extend_from_slice(data);
    }
    assert_eq!(bytes, expected);
}

#[test]
fn what_the_connector_does_not_take_is_not_sent() {
    let most = MAX_MESSAGE - CN - MSG - CMD;
    let bytes = vec![0; most + 1];
    assert_eq!(
        encode(1, 1, &[Command::Write(&bytes[..most])]).map(|bytes| bytes.len()),
        Ok(HEADER + MAX_MESSAGE)
    );
    assert_eq!(
        encode(1, 1, &[Command::Write(&bytes)]),
        Err(Errno::EMSGSIZE)
    );
}

#[test]
fn each_command_has_its_status_and_its_data() {
    let mut pending = Pending::new(7, COMMANDS);
    for message in [status(5, 0), status(1, 0), data(0, &[1, 2])] {
        pending.take(&message).unwrap();
        assert!(!pending.is_done());
    }
    pending.take(&status(0, 0)).unwrap();
    assert!(pending.is_done());
    let read = Done {
        status: 0,
        data: vec![1, 2],
    };
    assert_eq!(
        pending.into_done(),
        [Done::default(), Done::default(), read]
    );
}

#[test]
fn bundled_answers_are_the_same() {
    let mut pending = Pending::new(7, &COMMANDS[1..]);
    let both = nl(&[
        cn(W1, 7, 0, &w1(0, Some((1, &[])))),
        cn(W1, 7, 8, &w1(0, Some((0, &[1, 2])))),
        cn(W1, 7, 0, &w1(0, Some((0, &[])))),
    ]);
    pending.take(&both).unwrap();
    assert_eq!(pending.into_done()[1].data, [1, 2]);
}

#[test]
fn found_devices_come_in_pieces() {
    let mut pending = Pending::new(7, &[Command::Search]);
    pending.take(&data(2, &ROM)).unwrap();
    pending.take(&data(2, &[ROM, ROM].concat())).unwrap();
    pending.take(&data(2, &[])).unwrap();
    assert!(!pending.is_done());
    pending.take(&status(2, 0)).unwrap();
    assert_eq!(pending.into_done()[0].data, [ROM, ROM, ROM].concat());
}

#[test]
fn a_reset_without_an_answer_says_so_and_the_rest_is_told_too() {
    let mut pending = Pending::new(7, &COMMANDS[..2]);
    pending.take(&status(5, 255)).unwrap();
    pending.take(&status(1, 0)).unwrap();
    assert_eq!(pending.into_done()[0].status, 255);
}

#[test]
fn a_bus_that_is_gone_ends_it() {
    let mut pending = Pending::new(7, COMMANDS);
    let gone = nl(&[cn(W1, 7, 0, &w1(19, None))]);
    assert_eq!(pending.take(&gone), Err(Errno::ENODEV));
}

#[test]
fn what_belongs_to_others_is_left_alone() {
    let mut pending = Pending::new(7, &COMMANDS[..1]);
    // The kernel sends an empty message before an answer that fills its buffer, and other users of
    // the connector, and late answers, have other numbers.
    for foreign in [
        nl(&[cn((0, 0), 0, 0, &[])]),
        nl(&[cn((1, 1), 7, 0, &[1, 2, 3])]),
        nl(&[cn(W1, 6, 0, &w1(0, Some((5, &[]))))]),
        nl(&[]),
    ] {
        pending.take(&foreign).unwrap();
        assert!(!pending.is_done());
    }
}

#[test]
fn answers_that_cannot_be_are_refused() {
    for message in [
        // Another command than the one that is next.
        status(1, 0),
        // Less than it says.
        status(5, 0)[..40].to_vec(),
        nl(&[cn(W1, 7, 0, &[MASTER_CMD, 0, 9, 9])]),
        vec![1, 0, 0, 0],
    ] {
        let mut pending = Pending::new(7, COMMANDS);
        assert_eq!(pending.take(&message), Err(Errno::EBADMSG));
    }
    let mut pending = Pending::new(7, &COMMANDS[2..]);
    pending.take(&data(0, &[1, 2, 3])).unwrap();
    assert_eq!(pending.take(&status(0, 0)), Err(Errno::EBADMSG));
}

proptest! {
    #[test]
    fn any_bytes_are_lived_through(
        bytes in proptest::collection::vec(any::<u8>(), 0..128),
        at in 0..80_usize,
        value in any::<u8>(),
    ) {
        let _ = Pending::new(7, COMMANDS).take(&bytes);
        let mut message = data(0, &[1, 2]);
        if let Some(byte) = message.get_mut(at) {
            *byte = value;
        }
        let _ = Pending::new(7, &COMMANDS[2..]).take(&message);
    }
}
