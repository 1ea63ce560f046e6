//! An owner and a user in one thread, and a device between them.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use myclerk::bus::fake::{FakeSession, OPENING};
use myclerk::bus::hid::client::attach;
use myclerk::bus::hid::fake::{FakeInput, FakeMaker};
use myclerk::bus::hid::server::{self, OWNED};
use myclerk::bus::{AttachError, End, Grant, Local, Opener, Present, Refused, Wish};
use myclerk::kernel::evdev::codes::{ABS_MT_SLOT, ABS_MT_TRACKING_ID, EV_ABS, EV_KEY, EV_LED};
use myclerk::kernel::evdev::{Axis, Codes, Description, Event, Ids};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::LocalSet;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const KEY_A: u16 = 30;
pub(crate) const BTN_TOUCH: u16 = 0x14A;
pub(crate) const LED_CAPS: u16 = 1;
pub(crate) const MT_X: u16 = 0x35;
pub(crate) const MT_Y: u16 = 0x36;

pub(crate) fn key(code: u16, value: i32) -> Event {
    Event::new(EV_KEY, code, value)
}

pub(crate) fn abs(code: u16, value: i32) -> Event {
    Event::new(EV_ABS, code, value)
}

pub(crate) fn led(code: u16, value: i32) -> Event {
    Event::new(EV_LED, code, value)
}

pub(crate) fn codes(codes: &[u16]) -> Codes {
    codes.iter().copied().collect()
}

/// Keys, wheels, a stick, three touches, LEDs, a beeper, effects.
pub(crate) fn everything() -> Description {
    let axis = |value, maximum| Axis {
        value,
        maximum,
        fuzz: 1,
        flat: 2,
        resolution: 40,
        minimum: -100,
    };
    Description {
        ids: Ids {
            bus: 3,
            vendor: 0x1209,
            product: 0x0001,
            version: 0x0111,
        },
        name: "Everything".to_owned(),
        uniq: "E1".to_owned(),
        props: codes(&[0, 2]),
        keys: codes(&[KEY_A, 31, 0x110, BTN_TOUCH]),
        rel: codes(&[0, 1, 8]),
        abs: vec![
            (0, axis(7, 100)),
            (
                ABS_MT_SLOT,
                Axis {
                    maximum: 2,
                    ..Axis::default()
                },
            ),
            (MT_X, axis(0, 1000)),
            (MT_Y, axis(0, 1000)),
            (
                ABS_MT_TRACKING_ID,
                Axis {
                    maximum: 65535,
                    ..Axis::default()
                },
            ),
        ],
        msc: codes(&[4]),
        switches: codes(&[0, 5]),
        leds: codes(&[0, LED_CAPS, 2]),
        sounds: codes(&[1, 2]),
        ff: codes(&[0x50, 0x51, 0x52, 0x58, 0x60, 0x61]),
        effects: 4,
        repeat: Some([300, 40]),
    }
}

/// A test's world.
pub(crate) struct Rig {
    pub(crate) input: FakeInput,
    pub(crate) maker: FakeMaker,
    pub(crate) session: Rc<FakeSession>,
    ends: UnboundedReceiver<End>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(everything(), true)
    }

    /// `write`: the user may change something.
    pub(crate) fn with(description: Description, write: bool) -> Self {
        let input = FakeInput::new(description);
        let (tell, ends) = mpsc::unbounded_channel();
        let host = input.clone();
        let session = FakeSession::new(
            move |opened| {
                let wanted = (OWNED.wanted)(opened.opcode, &opened.payload);
                assert_eq!(wanted.unwrap().device, "hid:1209:0001:E1");
                let grant = Grant {
                    corr: OPENING,
                    opcode: opened.opcode,
                    payload: opened.payload,
                    present: present(),
                    write,
                    quiet: true,
                };
                let (host, tell) = (host.clone(), tell.clone());
                tokio::task::spawn_local(async move {
                    let end = server::serve(&host, grant, opened.stream).await;
                    tell.send(end).unwrap();
                });
            },
            |_, _| Err(Refused::unsupported("nothing is asked outside of streams")),
        );
        Self {
            input,
            maker: FakeMaker::new(),
            session,
            ends,
        }
    }

    pub(crate) async fn attach(&self) -> Local {
        self.try_attach(&[])
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    pub(crate) async fn try_attach(&self, options: &[(&str, &str)]) -> Result<Local, AttachError> {
        self.attach_as(wish(options)).await
    }

    /// With an owner that is waited for.
    pub(crate) async fn attach_for(&self, grace: Duration, options: &[(&str, &str)]) -> Local {
        let wish = Wish {
            grace,
            ..wish(options)
        };
        let attached = self.attach_as(wish).await;
        attached.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn attach_as(&self, wish: Wish) -> Result<Local, AttachError> {
        let opener: Rc<dyn Opener> = self.session.clone();
        let looks = self.input.looks();
        let local = attach(&self.maker, opener, wish).await?;
        looked(&self.input, looks + 2).await;
        Ok(local)
    }

    /// How the use of the device ended at its owner.
    pub(crate) async fn end(&mut self) -> End {
        let end = tokio::time::timeout(PATIENCE, self.ends.recv()).await;
        end.unwrap().unwrap()
    }

    /// Waits until the device of the user has done so much.
    pub(crate) async fn seen(&self, wanted: &[Event]) {
        until(
            || ends_with(&self.events(), wanted),
            || format!("{:?} instead of {wanted:?}", self.events()),
        )
        .await;
    }

    /// What the device of the user did, without times, and without the setting of its repetition at
    /// the beginning.
    pub(crate) fn events(&self) -> Vec<Event> {
        let all = self.maker.events();
        let timeless = |event: &Event| Event { time: 0, ..*event };
        all.iter().skip(3).map(timeless).collect()
    }

    /// Waits until the owner's device was told so much.
    pub(crate) async fn written(&self, wanted: &[Event]) {
        let timeless = || -> Vec<Event> {
            let written = self.input.written();
            written
                .iter()
                .map(|event| Event { time: 0, ..*event })
                .collect()
        };
        until(
            || timeless() == wanted,
            || format!("{:?} instead of {wanted:?}", timeless()),
        )
        .await;
    }
}

pub(crate) fn wish(options: &[(&str, &str)]) -> Wish {
    let option = |(key, value): &(&str, &str)| ((*key).to_owned(), vec![(*value).to_owned()]);
    Wish {
        device: "hid:1209:0001:E1".to_owned(),
        title: "Everything".to_owned(),
        node: "hub".to_owned(),
        options: options.iter().map(option).collect(),
        ..Wish::default()
    }
}

pub(crate) fn present() -> Present {
    Present {
        id: "hid:1209:0001:E1".to_owned(),
        name: "Everything".to_owned(),
        place: "event7".to_owned(),
        hazard: None,
        props: BTreeMap::new(),
    }
}

fn ends_with(events: &[Event], wanted: &[Event]) -> bool {
    events.ends_with(wanted)
}

/// Waits until the owner's side has asked the device so often for its state: once before it takes
/// the device, and once afterwards. What happens from then on are events.
pub(crate) async fn looked(input: &FakeInput, times: usize) {
    until(|| input.looks() >= times, || "nobody looked".to_owned()).await;
}

/// Waits until it is so; fails after a while.
pub(crate) async fn until(so: impl Fn() -> bool, otherwise: impl Fn() -> String) {
    let patience = tokio::time::Instant::now() + PATIENCE;
    while !so() {
        assert!(tokio::time::Instant::now() < patience, "{}", otherwise());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Runs a test in one thread, as the daemons are.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}
