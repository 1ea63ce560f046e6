//! `myclerk init`

use clap::Args;
use serde::Serialize;

use super::Context;
use super::errors::CliError;
use super::output::{self, label, note};
use crate::daemon::state::{Identity, StateDir};
use crate::daemon::system::{SystemEntropy, wall_secs};

const EXAMPLES: &str = "\
Examples:
  myclerk init
  myclerk init --name hub --family-name 'Smith'";

/// Found a family with this machine as its first member
///
/// Makes the family's root key and this node's key and certificate. Run it once, on the machine
/// that will invite the others; the others use `myclerk join`. Run again, it says what exists.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Init {
    /// Name of this machine in the family [default: the host name]
    #[arg(long)]
    name: Option<String>,

    /// Name of the family
    #[arg(long, value_name = "NAME", default_value = "home")]
    family_name: String,
}

#[derive(Serialize)]
struct Output {
    created: bool,
    node: Named,
    family: Named,
    state: String,
    root_key: bool,
}

#[derive(Serialize)]
struct Named {
    id: String,
    name: String,
}

impl Init {
    pub(super) fn run(self, context: &Context) -> Result<(), CliError> {
        let state = context.state();
        let created = !state.is_set_up();
        if created {
            let name = self.name.clone().unwrap_or_else(host_name);
            state.create()?;
            let present = wall_secs().max(state.time_floor()?);
            state
                .lock()?
                .found_family(&name, &self.family_name, &mut SystemEntropy, present)?;
        }
        let identity = state.identity()?;
        if !created
            && self
                .name
                .as_ref()
                .is_some_and(|name| *name != identity.name)
        {
            note("note: this machine is set up already; a name cannot be changed afterwards");
        }
        let output = Output::new(created, &identity, &state);
        if context.json {
            output::json(&output)
        } else {
            output::print(&output.text())
        }
    }
}

impl Output {
    fn new(created: bool, identity: &Identity, state: &StateDir) -> Self {
        let node = identity.key.node_id().to_string();
        let family = identity.family.id().to_string();
        Self {
            created,
            node: Named {
                id: node,
                name: identity.name.clone(),
            },
            family: Named {
                id: family,
                name: identity.family.name.clone(),
            },
            state: state.path().display().to_string(),
            root_key: state.has_root(),
        }
    }

    fn text(&self) -> String {
        let Self {
            node,
            family,
            state,
            ..
        } = self;
        let head = format!(
            "  node    {}  {}\n  family  {}  {}\n  state   {state}\n",
            node.name,
            node.id,
            label(&family.name, "(unnamed)"),
            family.id
        );
        match (self.created, self.root_key) {
            (true, _) => format!(
                "This machine has founded a family.\n{head}\n\
                 Keep a copy of {state}/family-root.key in a safe place: whoever has it can let\n\
                 anybody into the family, and without it nobody new can join.\n\n\
                 Next:\n  \
                 myclerk serve           share what is plugged in here\n  \
                 myclerk list --local    see what that could be\n  \
                 myclerk invite          let another machine join\n"
            ),
            (false, true) => {
                format!("This machine is set up already; it holds the family's root key.\n{head}")
            }
            (false, false) => format!("This machine is set up already.\n{head}"),
        }
    }
}

/// The host name up to its first dot, or `node` where there is no usable one.
pub(super) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().split('.').next().unwrap_or_default();
    let usable = !name.is_empty() && crate::device::name::is_friendly(name) && name != "(none)";
    if usable {
        name.to_owned()
    } else {
        "node".to_owned()
    }
}
