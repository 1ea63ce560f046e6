//! Payloads of the `DEVICE_*` and `ACL_*` operations (profile 19.2, 19.3).

mod access;
mod event;
mod lock;
mod settings;

pub use access::{
    AclGetResponse, AclGrantRequest, AclRevokeRequest, AclSetRequest, AclVersion, PatternRequest,
    WireEntry,
};
pub use event::{DeviceEvent, EventKind, EventMask, SubscribeRequest};
pub use lock::{
    LockRequest, LockResponse, LockToken, MAX_TTL_MS, MAX_WAIT_MS, QueuePosition, UnlockRequest,
};
pub use settings::{CapabilitiesResponse, ConfigureRequest, ConfigureResponse, TITLE};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::msgpack::{self, DecodeError, EncodeError, Value};

/// The most devices in one answer; `more` tells where to go on.
pub const PAGE: usize = 256;

/// Request of `DEVICE_LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRequest {
    /// Only this class: `usb`, `serial`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Only ids behind this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
}

/// Request of `DEVICE_INFO` and others that name one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// Its id.
    pub dev: String,
}

/// One device in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    /// Stable id.
    pub dev: String,
    /// Its bus: `usb`, `serial`, …
    pub class: String,
    /// What people call it.
    pub name: String,
    /// [`State`](super::registry::State) as a number.
    pub state: u8,
    /// [`Mode`](super::acl::Mode) as a number: what the asker may do with it.
    pub mode: u8,
    /// Node-id of the one that uses it.
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    pub owner: Option<[u8; 16]>,
}

/// Answer of `DEVICE_INFO`: the short form and its properties.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// As in [`Brief`].
    pub dev: String,
    /// As in [`Brief`].
    pub class: String,
    /// As in [`Brief`].
    pub name: String,
    /// As in [`Brief`].
    pub state: u8,
    /// As in [`Brief`].
    pub mode: u8,
    /// As in [`Brief`].
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    pub owner: Option<[u8; 16]>,
    /// What else is known, by bus: `vid`, `pid`, `port`, `serial` for USB.
    pub props: BTreeMap<String, Value>,
}

impl Info {
    /// The long form of `brief`.
    pub fn new(brief: Brief, props: BTreeMap<String, Value>) -> Self {
        let Brief {
            dev,
            class,
            name,
            state,
            mode,
            owner,
        } = brief;
        Self {
            dev,
            class,
            name,
            state,
            mode,
            owner,
            props,
        }
    }

    /// The short form.
    pub fn brief(self) -> Brief {
        let Self {
            dev,
            class,
            name,
            state,
            mode,
            owner,
            props: _,
        } = self;
        Brief {
            dev,
            class,
            name,
            state,
            mode,
            owner,
        }
    }
}

/// Answer of `DEVICE_LIST`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListResponse {
    /// In the order of the ids.
    pub devs: Vec<Brief>,
    /// There are more behind this id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<String>,
}

impl ListResponse {
    /// Cuts a page out of all devices that the asker may see, which come in the order of their ids.
    pub fn page(request: &ListRequest, devices: impl Iterator<Item = Brief>) -> Self {
        let max = request.max.and_then(|max| usize::try_from(max).ok());
        let max = max.unwrap_or(PAGE).clamp(1, PAGE);
        let mut wanted = devices.filter(|device| {
            let behind = request
                .after
                .as_ref()
                .is_none_or(|after| device.dev > *after);
            let class = request
                .class
                .as_ref()
                .is_none_or(|class| device.class == *class);
            behind && class
        });
        let devs: Vec<Brief> = wanted.by_ref().take(max).collect();
        let more = wanted
            .next()
            .and_then(|_| devs.last())
            .map(|last| last.dev.clone());
        Self { devs, more }
    }

    /// The payload.
    ///
    /// # Errors
    /// [`EncodeError`] when it exceeds what MessagePack can say.
    pub fn encode(&self) -> Result<Vec<u8>, EncodeError> {
        msgpack::encode(self)
    }

    /// Reads a payload.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(payload: &[u8]) -> Result<Self, DecodeError> {
        msgpack::decode(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(count: usize) -> impl Iterator<Item = Brief> {
        (0..count).map(|index| Brief {
            dev: format!("usb:{index:04}"),
            class: "usb".to_owned(),
            name: String::new(),
            state: 0,
            mode: 3,
            owner: None,
        })
    }

    #[test]
    fn all_pages_together_are_all_devices_once() {
        let mut request = ListRequest {
            max: Some(7),
            ..ListRequest::default()
        };
        let mut seen = Vec::new();
        loop {
            let page = ListResponse::page(&request, devices(30));
            let page = ListResponse::decode(&page.encode().unwrap()).unwrap();
            seen.extend(page.devs.into_iter().map(|device| device.dev));
            match page.more {
                Some(more) => request.after = Some(more),
                None => break,
            }
        }
        let all: Vec<String> = devices(30).map(|device| device.dev).collect();
        assert_eq!(seen, all);
    }

    #[test]
    fn a_class_that_is_not_there_is_an_empty_list() {
        let request = ListRequest {
            class: Some("can".to_owned()),
            ..ListRequest::default()
        };
        assert_eq!(
            ListResponse::page(&request, devices(3)),
            ListResponse::default()
        );
    }
}
