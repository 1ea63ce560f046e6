//! Minimum tiers (profile 17.1).

use crate::wire::{flags::Tier, opcode::Opcode};

use super::operation::{Operation, StreamRole};

/// What the peer must use at least for each operation. An operator may raise a minimum, never lower
/// one.
#[derive(Clone, Debug, Default)]
pub struct TierPolicy {
    foreign: bool,
    raised: Vec<(Opcode, Tier)>,
}

impl TierPolicy {
    /// The policy towards a peer; `foreign` when it belongs to another family, whose opening
    /// operations need Tier 4.
    pub const fn new(foreign: bool) -> Self {
        Self {
            foreign,
            raised: Vec::new(),
        }
    }

    /// Raises the minimum of one operation; a tier below its minimum has no effect.
    #[must_use]
    pub fn raise(mut self, opcode: Opcode, tier: Tier) -> Self {
        self.raised.push((opcode, tier));
        self
    }

    /// The least tier of a record that may carry `opcode`.
    pub fn minimum(&self, opcode: Opcode) -> Tier {
        let operation = Operation::of(opcode);
        let federation = opcode.to_u16() >> 8 == 0x03;
        let foreign_opener = self.foreign && operation.role == StreamRole::Opens;
        let base = if federation || foreign_opener {
            Tier::T4
        } else {
            operation.tier()
        };
        self.raised
            .iter()
            .filter(|(raised, _)| *raised == opcode)
            .fold(base, |tier, (_, raised)| tier.max(*raised))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_openers_of_another_family_need_tier_4() {
        let own = TierPolicy::new(false);
        let foreign = TierPolicy::new(true);
        assert_eq!(own.minimum(Opcode::UsbDeviceAttach), Tier::T3);
        assert_eq!(foreign.minimum(Opcode::UsbDeviceAttach), Tier::T4);
        assert_eq!(foreign.minimum(Opcode::UsbBulkTransfer), Tier::T3);
        assert_eq!(own.minimum(Opcode::Unknown(0x0301)), Tier::T4);
    }

    #[test]
    fn an_operator_raises_but_never_lowers() {
        let policy = TierPolicy::new(false)
            .raise(Opcode::GpioLineSet, Tier::T5)
            .raise(Opcode::AclSet, Tier::T3);
        assert_eq!(policy.minimum(Opcode::GpioLineSet), Tier::T5);
        assert_eq!(policy.minimum(Opcode::AclSet), Tier::T4);
    }
}
