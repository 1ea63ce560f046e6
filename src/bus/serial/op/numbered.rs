//! Enumerations that travel as their number.

/// Declares an enumeration whose variants stand in a payload as the given numbers; every other
/// number is refused.
macro_rules! numbered {
    (
        $(#[$attribute:meta])*
        $name:ident { $($(#[$note:meta])* $number:literal $variant:ident,)+ }
    ) => {
        $(#[$attribute])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
        )]
        #[serde(try_from = "u8", into = "u8")]
        pub enum $name {
            $($(#[$note])* $variant,)+
        }

        impl TryFrom<u8> for $name {
            type Error = $crate::wire::msgpack::DecodeError;

            fn try_from(number: u8) -> Result<Self, Self::Error> {
                match number {
                    $($number => Ok(Self::$variant),)+
                    _ => Err($crate::wire::msgpack::DecodeError::Range),
                }
            }
        }

        impl From<$name> for u8 {
            fn from(value: $name) -> Self {
                match value {
                    $($name::$variant => $number,)+
                }
            }
        }
    };
}

pub(super) use numbered;
