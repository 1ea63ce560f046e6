//! Classes and the scheduler: who waits for whom, and how long (profile 11.3).

use super::*;

#[test]
fn sized_transfers_of_one_stream_never_overtake_each_other() {
    let mut pair = Pair::new(small(|limits| limits.rec = 4096));
    let stream = open(&mut pair, Opcode::UsbDeviceAttach);
    let now = pair.now;
    for (number, size) in [(0, 100), (1, 30_000), (2, 50), (3, 9_000), (4, 10)] {
        let mut payload = vec![number];
        payload.resize(size, 0);
        let transfer = Request::new(Target::On(stream), Opcode::UsbBulkTransfer, payload);
        pair.links[I].request(now, transfer).unwrap();
    }
    pair.settle();
    let order: Vec<_> = pair
        .events(R)
        .iter()
        .map(|event| match event {
            LinkEvent::Request { payload, .. } => payload[0],
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
}

/// A path of a fixed rate in front of which the transport keeps at most `unsent_limit` bytes.
struct Saturated {
    pair: Pair,
    /// Sealed bytes in front of the path, with the time at which each record has left.
    leaving: std::collections::VecDeque<(Mono, u64)>,
    free_at: Mono,
    rate: u64,
}

impl Saturated {
    fn unsent(&self) -> u64 {
        self.leaving.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Hands records to the transport while it takes them; R sends, I receives.
    fn pump(&mut self) {
        loop {
            let now = self.pair.now;
            while let Some((left, bytes)) = self.leaving.front().copied() {
                if left > now {
                    break;
                }
                self.leaving.pop_front();
                self.pair.links[R].delivered(left, bytes);
            }
            let limit = u64::try_from(self.pair.links[R].unsent_limit()).unwrap();
            if self.unsent() >= limit {
                return;
            }
            let Some(sealed) = self.pair.send(R) else {
                return;
            };
            let bytes = u64::try_from(sealed.plaintext.len() + 36).unwrap();
            self.pair.links[R].written(now, bytes);
            self.free_at = Mono(self.free_at.0.max(now.0) + bytes * 1_000_000 / self.rate);
            self.leaving.push_back((self.free_at, bytes));
            let queue = &mut self.pair.towards[I];
            queue.back_mut().unwrap().arrives = self.free_at;
        }
    }
}

#[test]
fn a_key_press_waits_less_than_five_milliseconds_while_bulk_saturates_100_mbit() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let disk = open(&mut pair, Opcode::UsbDeviceAttach);
    let keys = open_with(&mut pair, Opcode::StreamStart, b"\x81\xa4type\x03".to_vec());
    let mut path = Saturated {
        free_at: pair.now,
        pair,
        leaving: std::collections::VecDeque::new(),
        rate: 12_500_000,
    };
    let (mut bulk, mut reading, mut worst, mut pressed) = (0usize, 0, Duration::ZERO, 0);
    let start = path.pair.now;
    let mut pressed_at = None;
    for step in 0..20_000 {
        path.pair.advance(Duration::from_micros(100));
        let now = path.pair.now;
        let target = Target::On(disk);
        let read = Request::new(target, Opcode::UsbBulkTransfer, vec![0x95]).with_reply_len(65536);
        while reading < 16 {
            path.pair.links[I].request(now, read.clone()).unwrap();
            reading += 1;
        }
        while path.pair.send(I).is_some() {}
        path.pair.deliver(R).unwrap();
        for event in path.pair.events(R) {
            if let LinkEvent::Request { stream, corr, .. } = event {
                let data = vec![0xD1; 65536];
                path.pair.links[R]
                    .respond(stream, corr, Status::Ok, data, false)
                    .unwrap();
            }
        }
        if step % 77 == 0 && pressed_at.is_none() {
            path.pair.links[R].data(keys, vec![1; 32], false).unwrap();
            pressed_at = Some(now);
        }
        path.pump();
        path.pair.deliver(I).unwrap();
        for event in path.pair.events(I) {
            match event {
                LinkEvent::Response { payload, .. } => {
                    bulk += payload.len();
                    reading -= 1;
                }
                LinkEvent::Data { .. } => {
                    worst = worst.max(now.since(pressed_at.take().unwrap()));
                    pressed += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let possible = path.rate * path.pair.now.since(start).as_secs();
    let nine_tenths = usize::try_from(possible / 10 * 9).unwrap();
    assert!(bulk > nine_tenths, "bulk got {bulk} of {possible} bytes");
    assert!(pressed > 200, "{pressed}");
    assert!(worst < Duration::from_millis(5), "{worst:?}");
}

#[test]
fn class_1_waits_for_one_record_at_most_whatever_else_is_ready() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let disk = open(&mut pair, Opcode::UsbDeviceAttach);
    let can = open(&mut pair, Opcode::CanInterfaceOpen);
    let now = pair.now;
    for _ in 0..20 {
        let write = Request::new(Target::On(disk), Opcode::UsbBulkTransfer, vec![1; 65536]);
        pair.links[I].request(now, write).unwrap();
    }
    pair.send(I).unwrap();
    pair.links[I]
        .event(can, Opcode::CanFrameSend, vec![9; 16])
        .unwrap();
    let next = pair.send(I).unwrap();
    let first = frame::frames(&next.plaintext, usize::MAX)
        .next()
        .unwrap()
        .unwrap();
    let RawFrame::Whole(first) = first else {
        panic!("{first:?}");
    };
    assert_eq!(first.head.stream, can.0);
}

#[test]
fn class_1_beyond_its_bucket_leaves_room_for_the_others() {
    let mut pair = Pair::new(Limits::DEFAULT);
    let can = open(&mut pair, Opcode::CanInterfaceOpen);
    let now = pair.now;
    pair.links[I]
        .request(now, control(Opcode::DeviceList))
        .unwrap();
    let (mut records, mut answered) = (0, false);
    while !answered {
        while pair.links[I].queued(can) < 60_000 {
            pair.links[I]
                .event(can, Opcode::CanFrameSend, vec![9; 1000])
                .unwrap();
        }
        let sealed = pair.send(I).unwrap();
        records += 1;
        assert!(records < 50, "class 1 starves class 3");
        answered = frame::frames(&sealed.plaintext, usize::MAX).any(|frame| {
            matches!(frame, Ok(RawFrame::Whole(frame)) if matches!(frame.head.body, Body::Request { .. }))
        });
        pair.advance(pair.delay);
        pair.deliver(R).unwrap();
        pair.events(R);
        pair.send(R);
        pair.advance(pair.delay);
        pair.deliver(I).unwrap();
    }
}

#[test]
fn records_are_small_while_something_urgent_is_open_and_large_otherwise() {
    let mut pair = Pair::new(Limits::DEFAULT);
    assert_eq!(pair.links[I].record_budget(), 65536);
    assert_eq!(pair.links[I].unsent_limit(), 256 << 10);
    let stream = open(&mut pair, Opcode::UsbDeviceAttach);
    let now = pair.now;
    let keys = request(Target::On(stream), Opcode::UsbInterruptTransfer);
    pair.links[I].request(now, keys).unwrap();
    assert_eq!(pair.links[I].record_budget(), 12_500);
    assert_eq!(pair.links[I].unsent_limit(), 25_000);
    pair.settle();
    assert_eq!(pair.links[R].record_budget(), 12_500);
    let (_, corr) = the_request(&mut pair, R);
    answer(&mut pair, R, stream, corr);
    pair.settle();
    for end in [I, R] {
        assert_eq!(pair.links[end].record_budget(), 65536);
    }
}
