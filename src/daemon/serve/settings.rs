//! What peers may set of a device, and what they may know that its owner can do with it
//! (profile 19.2).

use std::collections::BTreeMap;

use super::Server;
use super::devices::{properties, refused};
use super::dispatch::{Answer, bad_payload, internal};
use super::look::Hardware;
use crate::bus::usb;
use crate::daemon::audit::{Record, What};
use crate::daemon::peer::Peer;
use crate::daemon::state::StateError;
use crate::device::acl::Need;
use crate::device::id::DeviceId;
use crate::device::op::{
    CapabilitiesResponse, ConfigureRequest, ConfigureResponse, DeviceRequest, TITLE,
};
use crate::device::registry::Refusal;
use crate::kernel::clock;
use crate::wire::error::ErrorMap;
use crate::wire::msgpack::{self, Value};
use crate::wire::opcode::Opcode;
use crate::wire::status::{Status, sub};

/// The longest title, in bytes.
const MAX_TITLE: usize = 128;

impl Server {
    pub(super) async fn device_configure(&self, peer: &Peer, payload: &[u8]) -> Answer {
        let request = ConfigureRequest::decode(payload).map_err(bad_payload)?;
        let unknown = |_| refused(&Refusal::Unknown);
        let name: DeviceId = request.dev.parse().map_err(unknown)?;
        self.recent().await;
        let opcode = Opcode::DeviceConfigure;
        let device = self
            .usable(peer, &name, opcode, Need::Write, None)
            .map_err(|refusal| refused(&refusal))?;
        // All are looked at before one is set.
        let foreign = request.set.keys().find(|key| *key != TITLE);
        if let Some(key) = foreign {
            return Err(bad_payload(format!("there is no setting {key:?}")));
        }
        if let Some(title) = request.set.get(TITLE) {
            let title = title_of(title).map_err(bad_payload)?;
            if self.set_title(peer, &device.id, title)? {
                let record = Record::new(What::Configured).on(&device.id);
                self.record(peer, record.because(TITLE));
                self.scan().await;
            }
        }
        let titles = self.titles.borrow();
        let title = titles.of(&device.id).map_or(Value::Nil, Value::from);
        let set = BTreeMap::from([(TITLE.to_owned(), title)]);
        ConfigureResponse { set }.encode().map_err(internal)
    }

    /// False when it is so already. Each change is written to the disk: no node may make many.
    fn set_title(
        &self,
        peer: &Peer,
        device: &DeviceId,
        title: Option<&str>,
    ) -> Result<bool, (Status, ErrorMap)> {
        if self.titles.borrow().of(device) == title {
            return Ok(false);
        }
        let node = peer.identity().node_id;
        let heard = self.titled.borrow_mut().hear(node, None, clock::mono());
        if heard.is_none() {
            let error = ErrorMap::new(sub::BUSY).with_msg("titles are changed too often");
            return Err((Status::ServiceUnavailable, error));
        }
        let store = || {
            let state = self.state.lock()?;
            let mut titles = state.titles()?;
            titles.set(device, title)?;
            state.store_titles(&titles)?;
            Ok(titles)
        };
        let titles = store().map_err(|error| match error {
            StateError::Rule(text) => {
                (Status::BadRequest, ErrorMap::new(sub::LIMIT).with_msg(text))
            }
            error => internal(error),
        })?;
        *self.titles.borrow_mut() = titles;
        Ok(true)
    }

    pub(super) async fn device_capabilities(&self, peer: &Peer, payload: &[u8]) -> Answer {
        let request: DeviceRequest = msgpack::decode(payload).map_err(bad_payload)?;
        let unknown = |_| refused(&Refusal::Unknown);
        let name: DeviceId = request.dev.parse().map_err(unknown)?;
        let found = self.recent().await;
        let registry = self.registry.borrow();
        let opcode = Opcode::DeviceCapabilities;
        let device = self
            .viewed(peer.identity(), |view| {
                registry.check(view, &name, opcode, Need::List, false)
            })
            .map_err(|refusal| refused(&refusal))?;
        let id = &device.found.id;
        let mut caps = found.get(id).map(properties).unwrap_or_default();
        caps.extend(self.operations(found.get(id), id.class()));
        caps.insert("set".to_owned(), Value::Array(vec![TITLE.into()]));
        CapabilitiesResponse { caps }.encode().map_err(internal)
    }

    /// The operations by which the device is used, and whether several may at a time.
    fn operations(&self, hardware: Option<&Hardware>, class: &str) -> BTreeMap<String, Value> {
        let numbers = |opcodes: &[Opcode]| {
            let numbers = opcodes.iter().map(|opcode| opcode.to_u16());
            Value::Array(numbers.map(|number| u64::from(number).into()).collect())
        };
        let owned = self.owned.iter().find(|owned| owned.class == class);
        let (open, call, shared) = match (hardware, owned) {
            (Some(Hardware::Usb(_)), _) => (&[Opcode::UsbDeviceAttach][..], &[][..], false),
            (_, Some(owned)) => (owned.openers, owned.calls, owned.shared),
            (_, None) => (&[][..], &[][..], false),
        };
        let mut caps = BTreeMap::from([
            ("open".to_owned(), numbers(open)),
            ("call".to_owned(), numbers(call)),
            ("shared".to_owned(), shared.into()),
        ]);
        if let Some(Hardware::Usb(_)) = hardware {
            let hold = u64::try_from(usb::server::LONGEST.as_millis()).unwrap_or(u64::MAX);
            caps.insert("hold".to_owned(), hold.into());
        }
        caps
    }
}

/// The title to set, or none to take the device's own again.
fn title_of(value: &Value) -> Result<Option<&str>, String> {
    match value {
        Value::Nil => Ok(None),
        Value::Str(title) => {
            let fits = (1..=MAX_TITLE).contains(&title.trim().len())
                && title.len() <= MAX_TITLE
                && !title.contains(char::is_control);
            if fits {
                Ok(Some(title))
            } else {
                Err(format!(
                    "{TITLE:?} is 1 to {MAX_TITLE} bytes without control characters"
                ))
            }
        }
        Value::Bool(_)
        | Value::Uint(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Bin(_)
        | Value::Array(_)
        | Value::Map(_) => Err(format!("{TITLE:?} is text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_bounded_text_that_people_can_read() {
        assert_eq!(title_of(&"the left one".into()), Ok(Some("the left one")));
        assert_eq!(title_of(&Value::Nil), Ok(None));
        let longest = "x".repeat(MAX_TITLE);
        assert!(title_of(&Value::Str(longest.clone())).is_ok());
        for wrong in [
            Value::Str(longest + "x"),
            "".into(),
            "  ".into(),
            "a\u{1b}[2J".into(),
            Value::Uint(1),
        ] {
            assert!(title_of(&wrong).is_err(), "{wrong:?}");
        }
    }
}
