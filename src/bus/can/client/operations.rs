//! Operations on a remote interface that is local: what no program can do on a virtual one.

use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::options;
use crate::bus::can::op::{
    Configure, Configured, ErrorState, ErrorStatus, Modes, encode_empty, encode_filters,
};
use crate::bus::{AskError, OperateError, Parameters};
use crate::wire::opcode::Opcode;

/// The parameters of `configure`.
pub(super) const SETTINGS: &[&str] = &["bitrate", "sample", "dbitrate", "mode"];

/// What the task of an interface is asked for.
pub(super) enum Ask {
    /// To end.
    Detach,
    /// To perform an operation at the owner.
    Request {
        opcode: Opcode,
        payload: Vec<u8>,
        answer: oneshot::Sender<Result<Vec<u8>, AskError>>,
    },
}

/// An operation of a subcommand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Status,
    Configure(Configure),
    Filter(Vec<crate::kernel::can::Filter>),
}

impl Operation {
    pub(super) fn read(name: &str, parameters: &Parameters) -> Result<Self, OperateError> {
        match name {
            "status" => Ok(Self::Status),
            "configure" => configure(parameters).map(Self::Configure),
            "filter" => {
                let texts: Vec<String> = parameters.get("filter").into_iter().cloned().collect();
                let filters = options::filters(&texts);
                let filters = filters.map_err(|error| OperateError::Usage(error.to_string()))?;
                Ok(Self::Filter(filters))
            }
            other => Err(OperateError::Usage(format!(
                "a CAN interface has no operation {other:?}; it has status, configure and filter"
            ))),
        }
    }

    pub(super) async fn perform(
        &self,
        asks: &mpsc::UnboundedSender<Ask>,
    ) -> Result<Value, OperateError> {
        let failed = |text: String| OperateError::Failed(text);
        match self {
            Self::Status => {
                let mut payload = Vec::new();
                encode_empty(&mut payload);
                let answer = ask(asks, Opcode::CanErrorStatus, payload).await?;
                let status = ErrorStatus::decode(&answer).map_err(|e| failed(e.to_string()))?;
                Ok(status_json(&status))
            }
            Self::Configure(configure) => {
                let payload = configure.encode().map_err(|e| failed(e.to_string()))?;
                let answer = ask(asks, Opcode::CanConfigure, payload).await?;
                let actual = Configured::decode(&answer).map_err(|e| failed(e.to_string()))?;
                Ok(configured_json(&actual))
            }
            Self::Filter(filters) => {
                ask(asks, Opcode::CanFilterSet, encode_filters(filters)).await?;
                Ok(json!({ "filters": filters.len() }))
            }
        }
    }
}

async fn ask(
    asks: &mpsc::UnboundedSender<Ask>,
    opcode: Opcode,
    payload: Vec<u8>,
) -> Result<Vec<u8>, AskError> {
    let ended = || AskError::Ended("the interface was given back".to_owned());
    let (answer, answered) = oneshot::channel();
    let request = Ask::Request {
        opcode,
        payload,
        answer,
    };
    asks.send(request).map_err(|_| ended())?;
    answered.await.map_err(|_| ended())?
}

/// Reads [`SETTINGS`].
pub(super) fn configure(parameters: &Parameters) -> Result<Configure, OperateError> {
    let usage = |text: String| OperateError::Usage(text);
    let number = |key: &str| {
        let value = parameters.get(key).map(|text| text.parse::<u32>());
        value
            .transpose()
            .map_err(|_| usage(format!("{key} is a whole number")))
    };
    let Some(bitrate) = number("bitrate")?.filter(|rate| *rate > 0) else {
        return Err(usage("the bit rate is missing: bitrate=500000".to_owned()));
    };
    let mode = match parameters.get("mode") {
        None => None,
        Some(text) => {
            let mut modes = Modes::default();
            for word in text.split(',').filter(|word| !word.is_empty()) {
                match word {
                    "loopback" => modes.loopback = true,
                    "listen-only" => modes.listen_only = true,
                    "one-shot" => modes.one_shot = true,
                    other => {
                        return Err(usage(format!(
                            "{other:?} is no mode; there are loopback, listen-only and one-shot"
                        )));
                    }
                }
            }
            Some(modes)
        }
    };
    Ok(Configure {
        bitrate,
        sample: number("sample")?,
        dbitrate: number("dbitrate")?,
        mode,
    })
}

fn status_json(status: &ErrorStatus) -> Value {
    json!({
        "state": match status.state {
            ErrorState::Active => "error-active",
            ErrorState::Warning => "error-warning",
            ErrorState::Passive => "error-passive",
            ErrorState::Off => "bus-off",
        },
        "tx": status.tx,
        "rx": status.rx,
        "restarts": status.restarts,
        "bus-offs": status.busoff,
    })
}

fn configured_json(actual: &Configured) -> Value {
    json!({
        "bitrate": actual.bitrate,
        "sample": actual.sample,
        "dbitrate": actual.dbitrate,
        "loopback": actual.mode.loopback,
        "listen-only": actual.mode.listen_only,
        "one-shot": actual.mode.one_shot,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, parameters: &[(&str, &str)]) -> Result<Operation, OperateError> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Operation::read(name, &parameters.iter().map(owned).collect())
    }

    #[test]
    fn a_configuration_is_read_from_words() {
        let words = [("bitrate", "250000"), ("mode", "listen-only,one-shot")];
        let Ok(Operation::Configure(configure)) = read("configure", &words) else {
            panic!("a configuration");
        };
        assert_eq!(configure.bitrate, 250_000);
        assert_eq!(configure.mode.map(u8::from), Some(6));
        for wrong in [
            &[("bitrate", "fast")][..],
            &[("bitrate", "0")],
            &[],
            &[("bitrate", "1"), ("mode", "quiet")],
        ] {
            let read = read("configure", wrong);
            assert!(matches!(read, Err(OperateError::Usage(_))), "{wrong:?}");
        }
    }

    #[test]
    fn an_operation_that_does_not_exist_is_refused() {
        assert!(matches!(read("pulse", &[]), Err(OperateError::Usage(_))));
    }
}
