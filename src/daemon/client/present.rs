//! Devices of the buses that have a line in [`crate::bus::PRESENTERS`] as local ones.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::Client;
use super::attached::{Attached, Form};
use super::hub::Hub;
use super::measured::Measured;
use super::target::{Target, USB, ask_error};
use crate::bus::outage::GRACE;
use crate::bus::{AttachError, Here, Local, OperateError, Parameters, Presenter, Wish};
use crate::daemon::control::Conversation;
use crate::daemon::control::message::{AttachedDevice, ControlError, NodeName};
use crate::daemon::peer::meter::Meter;

/// A device that a person wants to have, and how.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// As the person calls it.
    pub(super) device: String,
    /// What it is to be called here.
    pub(super) name: Option<String>,
    /// One of [`Presenter::ways`].
    pub(super) way: Option<String>,
    /// By [`Presenter::options`].
    pub(super) options: BTreeMap<String, Vec<String>>,
    /// How long it may stay without its owner.
    pub(super) grace: Option<Duration>,
}

impl Wanted {
    /// USB devices appear as they are.
    pub(super) fn is_plain(&self) -> Result<(), ControlError> {
        if self.name.is_none()
            && self.way.is_none()
            && self.options.is_empty()
            && self.grace.is_none()
        {
            return Ok(());
        }
        let message = "a USB device appears as it is: it has neither another name nor options, and it ends with the \
                       session";
        Err(ControlError::usage(message))
    }

    /// Whether the presenter can do it so.
    fn fits(&self, presenter: &Presenter) -> Result<(), ControlError> {
        let class = presenter.class;
        if let Some(way) = &self.way
            && !presenter.ways.contains(&way.as_str())
        {
            let error = ControlError::usage(format!("no {class} device is attached as {way:?}"));
            return Err(error.because(match presenter.ways {
                [] => "there is only one way".to_owned(),
                ways => format!("it can be {}", ways.join(" or ")),
            }));
        }
        let known = |name: &String| presenter.options.iter().any(|(known, _)| known == name);
        let Some(unknown) = self.options.keys().find(|name| !known(name)) else {
            return Ok(());
        };
        let error = ControlError::usage(format!("{class} devices have no option {unknown:?}"));
        let list = presenter
            .options
            .iter()
            .map(|(name, meaning)| format!("{name} ({meaning})"));
        let list: Vec<_> = list.collect();
        Err(error.because(match &*list {
            [] => "they have no options".to_owned(),
            list => format!("the options are {}", list.join(", ")),
        }))
    }
}

impl Client {
    fn presenter(&self, class: &str) -> Result<&'static Presenter, ControlError> {
        let presenters = self.presenters;
        let found = presenters.iter().find(|known| known.class == class);
        found.copied().ok_or_else(|| {
            let classes = [USB].into_iter().chain(presenters.iter().map(|p| p.class));
            let classes: Vec<_> = classes.collect();
            ControlError::failed(format!("{class} devices cannot be made local"))
                .because(format!("this version knows {}", classes.join(", ")))
        })
    }

    /// Makes a device local by its presenter and looks after it from then on.
    pub(super) async fn present(
        self: &Rc<Self>,
        hub: &Rc<Hub>,
        target: Target,
        wanted: Wanted,
        asker: &Conversation,
    ) -> Result<AttachedDevice, ControlError> {
        let node = hub.node();
        let presenter = self.presenter(target.class())?;
        wanted.fits(presenter)?;
        let failed = |error: &AttachError| not_attached(error, &node, target.name());
        (presenter.check)().map_err(|error| failed(&error))?;
        asker.step(format!("asking {} for {}", node.name, target.name()));
        let label = self.auto.label(&node, target.name(), &target.brief.name);
        let wish = Wish {
            link: Some(label.name),
            access: label.access,
            name: wanted.name,
            way: wanted.way,
            options: wanted.options,
            grace: wanted.grace.unwrap_or(GRACE),
            ..wish(&node, &target)
        };
        let here = Here {
            vhci: Rc::clone(&self.vhci),
        };
        let meter = Rc::new(Meter::default());
        let measured = Measured {
            hub: Rc::clone(hub),
            meter: Rc::clone(&meter),
        };
        let attaching = (presenter.attach)(Rc::new(measured), wish, &here).await;
        let Local { handle, ended } = attaching.map_err(|error| failed(&error))?;
        let attached = Attached::new(node, target, Form::Other { presenter, handle }, meter);
        self.attached.borrow_mut().push(Rc::clone(&attached));
        let (client, watched) = (Rc::clone(self), Rc::clone(&attached));
        tokio::task::spawn_local(async move {
            let end = ended.await;
            let reason: &dyn std::error::Error = &end;
            let (node, device) = (&watched.node.name, &watched.device);
            tracing::info!(node, device, reason, "device is no longer attached");
            watched.has_ended(end.to_string());
            client.forget(&watched);
        });
        tokio::select! {
            biased;
            () = asker.gone() => {
                attached.detach();
                attached.gone().await;
                Err(ControlError::failed("the attach was taken back"))
            }
            () = core::future::ready(()) => Ok(attached.info(&self.vhci)),
        }
    }

    /// Performs an operation of a subcommand on a device, attached or not.
    pub(super) async fn operate(
        &self,
        hub: &Rc<Hub>,
        device: &str,
        operation: String,
        parameters: Parameters,
    ) -> Result<serde_json::Value, ControlError> {
        let node = hub.node();
        if let Some(attached) = self.find_attached(&node.id, device) {
            return operate(&attached, operation, parameters).await;
        }
        let peer = self.connected(hub).await?;
        let target = Target::named(&peer, device, &node, self.presenters).await?;
        if let Some(attached) = self.find_attached(&node.id, &target.brief.dev) {
            return operate(&attached, operation, parameters).await;
        }
        if target.class() == USB {
            return Err(no_operations());
        }
        let Some(hook) = self.presenter(target.class())?.operate else {
            let path = format!("{}/{}", node.name, target.name());
            let error = ControlError::failed(format!("{path} is not attached"));
            return Err(error.mend(format!("myclerk attach {path}")));
        };
        let done = hook(
            Rc::<Hub>::clone(hub),
            wish(&node, &target),
            operation,
            parameters,
        )
        .await;
        done.map_err(|error| not_done(&error, &node, target.name()))
    }
}

async fn operate(
    attached: &Attached,
    operation: String,
    parameters: Parameters,
) -> Result<serde_json::Value, ControlError> {
    match &attached.form {
        Form::Usb { .. } => Err(no_operations()),
        Form::Other { handle, .. } => handle
            .operate(operation, parameters)
            .await
            .map_err(|error| not_done(&error, &attached.node, &attached.device)),
    }
}

fn no_operations() -> ControlError {
    ControlError::usage("USB devices have no operations of their own")
}

fn wish(node: &NodeName, target: &Target) -> Wish {
    Wish {
        device: target.name().to_owned(),
        title: target.brief.name.clone(),
        node: node.name.clone(),
        ..Wish::default()
    }
}

fn not_attached(error: &AttachError, node: &NodeName, device: &str) -> ControlError {
    match error {
        AttachError::Ask(error) => ask_error(error, node, device),
        AttachError::Answer(why) => {
            ControlError::failed(format!("{} answered without sense", node.name))
                .because(why.clone())
        }
        AttachError::Wish(why) => ControlError::usage(why.clone()),
        AttachError::Here { what, cause, mend } => {
            let denied = cause.kind() == io::ErrorKind::PermissionDenied;
            let error = if denied {
                ControlError::refused(what.clone())
            } else {
                ControlError::failed(what.clone())
            };
            let error = error.because(cause.to_string());
            match mend {
                Some(mend) => error.mend(mend.clone()),
                None => error,
            }
        }
    }
}

fn not_done(error: &OperateError, node: &NodeName, device: &str) -> ControlError {
    match error {
        OperateError::Usage(why) => ControlError::usage(why.clone()),
        OperateError::Ask(error) => ask_error(error, node, device),
        OperateError::Failed(why) => ControlError::failed(why.clone()),
    }
}
