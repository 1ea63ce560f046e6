//! What is said of the rules by which devices become local by themselves.

use serde::{Deserialize, Serialize};

use super::NodeName;

/// To [`super::Request::AutoList`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoStatus {
    /// The file of the rules.
    pub file: String,
    /// Why it is not understood; the rules are those from before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// In the order in which they apply.
    pub rules: Vec<AutoRule>,
}

/// A rule and what it is about now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoRule {
    /// Its place in the file, from 1.
    pub number: usize,
    /// By the keys of the file.
    pub rule: serde_json::Value,
    /// What keeps it from being about anything: a node that is not known or not connected.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// The devices that it decides about.
    pub devices: Vec<AutoDevice>,
}

/// A device under a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutoDevice {
    /// Its owner.
    pub node: NodeName,
    /// Its id there.
    pub device: String,
    /// What people call it.
    pub name: String,
    /// How it stands.
    pub state: RuleState,
    /// Why it is not attached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How it stands with a device under a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleState {
    /// It is local, or held here for its owner's return.
    Attached,
    /// It is being attached.
    Trying,
    /// It is to be attached at once.
    Due,
    /// It could not be attached; there will be another attempt.
    Failed,
    /// Somebody else has it.
    Taken,
    /// A person detached it.
    PutAway,
    /// Another node's is preferred.
    Elsewhere,
}

impl RuleState {
    /// The word in tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Trying => "trying",
            Self::Due => "due",
            Self::Failed => "failed",
            Self::Taken => "taken",
            Self::PutAway => "put away",
            Self::Elsewhere => "not chosen",
        }
    }
}
