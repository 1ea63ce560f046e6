//! What a person asks for with `--as` and `--option`.

use super::operations;
use crate::bus::can::op::Configure;
use crate::bus::{AttachError, Parameters, Wish};
use crate::kernel::can::{Filter, Frame, MAX_FILTERS, NAME_MAX};

/// How the local interface is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Vcan,
    Vxcan,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) way: Way,
    pub(super) filters: Option<Vec<Filter>>,
    pub(super) errors: bool,
    pub(super) own: bool,
    /// What the owner's controller is set to.
    pub(super) configure: Option<Configure>,
}

impl Wanted {
    pub(super) fn read(wish: &Wish) -> Result<Self, AttachError> {
        if let Some(name) = &wish.name {
            check_name(name)?;
        }
        let filters = wish.options.get("filter").map(|texts| filters(texts));
        Ok(Self {
            way: match wish.way.as_deref() {
                None | Some("vcan") => Way::Vcan,
                Some("vxcan") => Way::Vxcan,
                Some(other) => {
                    return Err(AttachError::Wish(format!(
                        "a CAN interface is vcan or vxcan, not {other}"
                    )));
                }
            },
            filters: filters.transpose()?,
            errors: flag(wish, "errors")?,
            own: flag(wish, "own")?,
            configure: configure(wish)?,
        })
    }
}

fn configure(wish: &Wish) -> Result<Option<Configure>, AttachError> {
    let given = |key: &&str| {
        let value = wish.options.get(*key)?.last()?;
        Some(((*key).to_owned(), value.clone()))
    };
    let parameters: Parameters = operations::SETTINGS.iter().filter_map(given).collect();
    if parameters.is_empty() {
        return Ok(None);
    }
    let configure = operations::configure(&parameters);
    configure
        .map(Some)
        .map_err(|error| AttachError::Wish(error.to_string()))
}

fn check_name(name: &str) -> Result<(), AttachError> {
    let strange = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
    if name.is_empty() || name.len() > NAME_MAX || name.starts_with('.') || name.contains(strange) {
        return Err(AttachError::Wish(format!(
            "an interface cannot be called {name:?}: 1 to {NAME_MAX} letters, digits, - and _ can be"
        )));
    }
    Ok(())
}

fn flag(wish: &Wish, key: &str) -> Result<bool, AttachError> {
    let values = wish.options.get(key).map(Vec::as_slice).unwrap_or_default();
    match values.last().map(String::as_str) {
        None | Some("false" | "no" | "0") => Ok(false),
        Some("true" | "yes" | "1" | "") => Ok(true),
        Some(other) => Err(AttachError::Wish(format!(
            "{key} is true or false, not {other}"
        ))),
    }
}

/// Filters as `candump` takes them: `ID:MASK`, where 8 digits of `ID` mean an extended identifier.
pub(super) fn filters(texts: &[String]) -> Result<Vec<Filter>, AttachError> {
    let all = texts.iter().flat_map(|text| text.split(','));
    let filters = all.map(filter).collect::<Result<Vec<_>, _>>()?;
    if filters.len() > MAX_FILTERS {
        return Err(AttachError::Wish(format!(
            "{MAX_FILTERS} filters are the most"
        )));
    }
    Ok(filters)
}

fn filter(text: &str) -> Result<Filter, AttachError> {
    let parsed = text.split_once(':').and_then(|(id, mask)| {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = |text| u32::from_str_radix(text, 16).ok().filter(|_| digits(text));
        let extended = if id.len() == 8 { Frame::EXTENDED } else { 0 };
        Some([number(id)? | extended, number(mask)?])
    });
    parsed.ok_or_else(|| {
        AttachError::Wish(format!(
            "{text:?} is no filter; one is ID:MASK, such as 123:7FF"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(options: &[(&str, &[&str])]) -> Wish {
        let texts = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        let options = options
            .iter()
            .map(|(key, all)| ((*key).to_owned(), texts(all)));
        Wish {
            options: options.collect(),
            ..Wish::default()
        }
    }

    #[test]
    fn filters_are_written_as_candump_takes_them() {
        let wanted = Wanted::read(&wish(&[("filter", &["123:7FF,0:0", "00000123:1FFFFFFF"])]));
        assert_eq!(
            wanted.unwrap().filters,
            Some(vec![[0x123, 0x7FF], [0, 0], [0x8000_0123, 0x1FFF_FFFF]])
        );
        for text in [
            "",
            "123",
            "12g:7FF",
            "123:",
            "+1:7FF",
            "123456789:0",
            "1:2:3",
        ] {
            let refused = Wanted::read(&wish(&[("filter", &[text])]));
            assert!(matches!(refused, Err(AttachError::Wish(_))), "{text}");
        }
    }

    #[test]
    fn what_is_not_asked_for_is_off() {
        let plain = Wanted::read(&wish(&[])).unwrap();
        assert_eq!(plain.way, Way::Vcan);
        assert!(plain.filters.is_none() && !plain.errors && !plain.own);
        assert_eq!(plain.configure, None);
        let both = Wanted::read(&wish(&[("errors", &["true"]), ("own", &["yes"])])).unwrap();
        assert!(both.errors && both.own);
        assert!(Wanted::read(&wish(&[("errors", &["perhaps"])])).is_err());
    }

    #[test]
    fn a_controller_is_set_only_with_a_bit_rate() {
        let wanted = Wanted::read(&wish(&[("bitrate", &["125000"]), ("sample", &["800"])]));
        let configure = wanted.unwrap().configure.unwrap();
        assert_eq!((configure.bitrate, configure.sample), (125_000, Some(800)));
        for wrong in [("sample", "800"), ("bitrate", "fast"), ("mode", "one-shot")] {
            let refused = Wanted::read(&wish(&[(wrong.0, &[wrong.1])]));
            assert!(matches!(refused, Err(AttachError::Wish(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_name_or_a_way_that_cannot_be_is_refused() {
        for name in ["", "a/b", "a b", "sixteen-letters-", "..", "a:b", "can%d"] {
            let wish = Wish {
                name: Some(name.to_owned()),
                ..Wish::default()
            };
            assert!(Wanted::read(&wish).is_err(), "{name}");
        }
        let wish = Wish {
            way: Some("slcan".to_owned()),
            ..Wish::default()
        };
        assert!(Wanted::read(&wish).is_err());
    }
}
