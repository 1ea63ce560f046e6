//! Random histories of kernel, server and clock against a plain model of what the kernel may hear.

use proptest::prelude::*;

use super::*;

/// One thing that kernel, server or clock may do next.
#[derive(Clone, Debug)]
enum Act {
    Submit { ep: u8, length: u32 },
    Unlink { back: usize },
    Answer { which: usize, status: i32 },
    Room(usize),
    Wait,
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (prop_oneof![Just(0u8), Just(1), Just(2), Just(3), Just(4)], 0u32..6000)
            .prop_map(|(ep, length)| Act::Submit { ep, length }),
        2 => (0usize..6).prop_map(|back| Act::Unlink { back }),
        4 => (0usize..8, prop_oneof![Just(0), Just(-104), Just(-2), Just(-32)])
            .prop_map(|(which, status)| Act::Answer { which, status }),
        1 => (0usize..4).prop_map(Act::Room),
        1 => Just(Act::Wait),
    ]
}

/// Checks the invariants of the module over everything the kernel is told.
#[derive(Default)]
struct Kernel {
    lanes: HashMap<u8, VecDeque<u32>>,
    unlinks: HashMap<u32, u32>,
    open: Vec<u32>,
}

impl Kernel {
    fn hear(&mut self, told: Vec<Told>) {
        for told in told {
            match told {
                Told::Submit(seqnum, ..) => {
                    let unlinked = self.unlinks.values().any(|target| *target == seqnum);
                    for lane in self.lanes.values_mut() {
                        if let Some(at) = lane.iter().position(|other| *other == seqnum) {
                            assert!(at == 0 || unlinked, "URB {seqnum} out of order");
                        }
                    }
                    self.close(seqnum);
                }
                Told::Unlink(seqnum, status) => {
                    let target = self.unlinks.remove(&seqnum).expect("an open unlink");
                    match status {
                        0 => assert!(!self.open.contains(&target), "no RET_SUBMIT before"),
                        -104 => self.close(target),
                        other => panic!("status {other} in RET_UNLINK"),
                    }
                }
            }
        }
    }

    fn close(&mut self, seqnum: u32) {
        let at = self.open.iter().position(|open| *open == seqnum);
        self.open.remove(at.expect("a URB is answered once"));
        for lane in self.lanes.values_mut() {
            lane.retain(|other| *other != seqnum);
        }
    }
}

impl Bench {
    /// Answers a request of either kind with a transfer that moved nothing.
    fn answer_nothing(&mut self, corr: u32, status: i32) {
        match self.requests()[corr as usize - 1].0 {
            Opcode::UsbIsochronousTransfer => self.iso_answer(corr, status, &[(0, -18)], &[]),
            _ => self.reply(corr, status, &[]),
        }
    }
}

proptest! {
    #[test]
    fn every_urb_is_answered_once_and_in_order(acts in proptest::collection::vec(any_act(), 1..120)) {
        let mut bench = Bench::new(4);
        let mut kernel = Kernel::default();
        let mut answered: Vec<u32> = Vec::new();
        let mut seqnum = 0;
        for act in acts {
            seqnum += 1;
            match act {
                Act::Submit { ep, length } => {
                    kernel.open.push(seqnum);
                    kernel.lanes.entry(ep).or_default().push_back(seqnum);
                    match ep {
                        0 => bench.control(seqnum, [0x80, 6, 0, 0, 0, 0, 4, 0]),
                        2 => bench.write(seqnum, 2, length as usize),
                        4 => bench.iso(seqnum, 4, &[(0, length)]),
                        _ => bench.read(seqnum, ep, length),
                    }
                }
                Act::Unlink { back } => {
                    let target = kernel.open.iter().rev().nth(back).copied();
                    let fresh = |target: &u32| !kernel.unlinks.values().any(|other| other == target);
                    if let Some(target) = target.filter(fresh) {
                        kernel.unlinks.insert(seqnum, target);
                        bench.unlink(seqnum, target);
                    }
                }
                Act::Answer { which, status } => {
                    let sent = u32::try_from(bench.server.sent.borrow().len()).expect("few requests");
                    let corr = (1..=sent).filter(|corr| !answered.contains(corr)).nth(which);
                    if let Some(corr) = corr {
                        answered.push(corr);
                        bench.server.room.set(bench.server.room.get() + 1);
                        bench.answer_nothing(corr, status);
                    }
                }
                Act::Room(room) => bench.server.room.set(room),
                Act::Wait => {
                    bench.start += UNLINK_PATIENCE;
                    bench.expire(Duration::ZERO);
                }
            }
            kernel.hear(bench.told());
        }
        bench.server.room.set(1000);
        bench.expire(UNLINK_PATIENCE);
        kernel.hear(bench.told());
        let sent = u32::try_from(bench.server.sent.borrow().len()).expect("few requests");
        for corr in 1..=sent {
            if !answered.contains(&corr) {
                bench.answer_nothing(corr, 0);
                kernel.hear(bench.told());
            }
        }
        prop_assert!(kernel.open.is_empty() && kernel.unlinks.is_empty());
        prop_assert!(bench.urbs.live.is_empty() && bench.urbs.requests.is_empty());
    }
}
