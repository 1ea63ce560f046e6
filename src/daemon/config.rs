//! Settings: built-in, then `/etc/myclerk/*.toml` in the order of the names, then `MYCLERK_*`, then
//! flags; the later one wins. No file is needed.
//!
//! `client.toml` also has the rules of the client daemon, which reads them itself, and anew whenever
//! they change ([`super::client::rules`]). People edit it while everything runs: when it is broken,
//! what else it says is left out, and everything goes on.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::client::rules;
use super::control::Side;
use super::metrics::Listen;
use crate::transport::capture::Payloads;

/// The TCP port that a server listens on unless told otherwise. No port is registered for the
/// protocol (profile 15.6); this one is unassigned at IANA.
pub const DEFAULT_PORT: u16 = 7575;
/// Where the state is unless told otherwise.
pub const DEFAULT_STATE: &str = "/var/lib/myclerk";
/// Where the control sockets are unless told otherwise.
pub const DEFAULT_RUN: &str = "/run/myclerk";
/// Where the settings files are unless told otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/myclerk";

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not understood.
    #[error("{} is not understood: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Which line and why.
        why: String,
    },
    /// An address is not usable.
    #[error("{0:?} is not an address to listen on: expected ADDR or ADDR:PORT, such as [::]:7575")]
    Listen(String),
    /// Nothing to let the counts be read on.
    #[error(
        "[metrics] of the settings: {0:?} is not an address of this machine alone: expected one such as \
         127.0.0.1:9575 or [::1]:9575, or the path of a socket"
    )]
    Metrics(String),
    /// A `NODE=ADDR` is not usable.
    #[error("{0:?} is not a node and its address: expected NODE=HOST or NODE=HOST:PORT")]
    Connect(String),
}

/// One settings file; every key may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The state directory.
    pub state: Option<PathBuf>,
    /// The run directory.
    pub run: Option<PathBuf>,
    /// What `myclerk serve` needs.
    #[serde(default)]
    pub serve: ServeSettings,
    /// What `myclerk client` needs.
    #[serde(default)]
    pub client: ClientSettings,
    /// Where the daemons let their counts be read.
    #[serde(default)]
    pub metrics: MetricsSettings,
    /// Why the settings in `client.toml` do not count, if so.
    #[serde(skip)]
    pub left_out: Option<String>,
}

/// `[metrics]` of a settings file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsSettings {
    /// An address of the loopback interface with its port, or the path of a socket; nothing is listened on
    /// without.
    pub listen: Option<String>,
    /// The same for the client daemon alone, where both run.
    pub client: Option<String>,
}

/// `[serve]` of a settings file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeSettings {
    /// Addresses to listen on, `ADDR` or `ADDR:PORT`.
    #[serde(default)]
    pub listen: Vec<String>,
}

/// `[client]` of a settings file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientSettings {
    /// Addresses of nodes, by node name or node-id.
    #[serde(default)]
    pub connect: BTreeMap<String, String>,
    /// What concerns USB only.
    #[serde(default)]
    pub usb: UsbSettings,
}

/// `[client.usb]` of a settings file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsbSettings {
    /// The sequence number of vhci-hcd from which on a device moves to another hub; never above
    /// [`crate::kernel::vhci::SEQNUM_LIMIT`], which is the default. For tests: every move is an
    /// unplugging to this machine's programs.
    pub seqnum_limit: Option<u32>,
}

/// The directories that every subcommand uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// Keys, members, rules; 0700.
    pub state: PathBuf,
    /// Control sockets.
    pub run: PathBuf,
}

/// A capture of frames to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaptureConfig {
    /// The file; what was in it is lost.
    pub file: PathBuf,
    /// How much of the payloads is written.
    pub payloads: Payloads,
}

/// What the server daemon is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeConfig {
    /// The directories.
    pub paths: Paths,
    /// Where to listen; never empty.
    pub listen: Vec<SocketAddr>,
    /// A capture, if somebody asked for one.
    pub capture: Option<CaptureConfig>,
    /// Where the counts can be read, if anywhere.
    pub metrics: Option<Listen>,
}

/// What the client daemon is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// The directories.
    pub paths: Paths,
    /// Nodes to connect to besides the stored peers.
    pub connect: Vec<Connect>,
    /// A capture, if somebody asked for one.
    pub capture: Option<CaptureConfig>,
    /// What concerns USB only.
    pub usb: UsbSettings,
    /// The directory of the settings files.
    pub config: PathBuf,
    /// Where the counts can be read, if anywhere.
    pub metrics: Option<Listen>,
}

/// One node to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// The name or node-id that the other end must prove by its certificate.
    pub node: String,
    /// `HOST:PORT`.
    pub address: String,
}

impl Settings {
    /// All `*.toml` of a directory; none when it does not exist.
    ///
    /// # Errors
    /// [`ConfigError::Io`] and [`ConfigError::File`].
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| ConfigError::Io { path, source }
        };
        let listing = match std::fs::read_dir(dir) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(io(dir)(error)),
        };
        let mut files = Vec::new();
        for entry in listing {
            let path = entry.map_err(io(dir))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                files.push(path);
            }
        }
        files.sort();
        let mut all = Self::default();
        for path in files {
            let text = std::fs::read_to_string(&path).map_err(io(&path))?;
            let with_rules = path.file_name().is_some_and(|name| name == rules::FILE);
            let one = if with_rules {
                besides_rules(&text)
            } else {
                toml::from_str(&text)
            };
            match one {
                Ok(one) => all.override_with(one),
                Err(error) => {
                    let why = error.to_string().trim_end().to_owned();
                    let error = ConfigError::File { path, why };
                    if !with_rules {
                        return Err(error);
                    }
                    all.left_out = Some(error.to_string());
                }
            }
        }
        Ok(all)
    }

    fn override_with(&mut self, later: Self) {
        self.state = later.state.or(self.state.take());
        self.run = later.run.or(self.run.take());
        if !later.serve.listen.is_empty() {
            self.serve.listen = later.serve.listen;
        }
        self.metrics.listen = later.metrics.listen.or(self.metrics.listen.take());
        self.metrics.client = later.metrics.client.or(self.metrics.client.take());
        self.client.connect.extend(later.client.connect);
        let limit = later.client.usb.seqnum_limit;
        self.client.usb.seqnum_limit = limit.or(self.client.usb.seqnum_limit);
    }

    /// The directories, after flags and environment.
    pub fn paths(&self, state: Option<PathBuf>, run: Option<PathBuf>) -> Paths {
        Paths {
            state: state
                .or_else(|| self.state.clone())
                .unwrap_or_else(|| DEFAULT_STATE.into()),
            run: run
                .or_else(|| self.run.clone())
                .unwrap_or_else(|| DEFAULT_RUN.into()),
        }
    }

    /// Where to listen: the flags' addresses, else the files', else every address of the machine.
    ///
    /// # Errors
    /// [`ConfigError::Listen`].
    pub fn listen(&self, flags: &[String]) -> Result<Vec<SocketAddr>, ConfigError> {
        let chosen = if flags.is_empty() {
            &self.serve.listen
        } else {
            flags
        };
        if chosen.is_empty() {
            return Ok(vec![SocketAddr::new(
                IpAddr::V6(Ipv6Addr::UNSPECIFIED),
                DEFAULT_PORT,
            )]);
        }
        chosen.iter().map(|text| parse_listen(text)).collect()
    }

    /// Where a daemon lets its counts be read, if anywhere.
    ///
    /// # Errors
    /// [`ConfigError::Metrics`].
    pub fn metrics(&self, side: Side) -> Result<Option<Listen>, ConfigError> {
        let text = match side {
            Side::Server => self.metrics.listen.as_ref(),
            Side::Client => self
                .metrics
                .client
                .as_ref()
                .or(self.metrics.listen.as_ref()),
        };
        let parse =
            |text: &String| Listen::parse(text).ok_or_else(|| ConfigError::Metrics(text.clone()));
        text.map(parse).transpose()
    }

    /// Nodes to connect to: the files', overridden by the flags' (`NODE=ADDR`).
    ///
    /// # Errors
    /// [`ConfigError::Connect`].
    pub fn connect(&self, flags: &[String]) -> Result<Vec<Connect>, ConfigError> {
        let mut all = self.client.connect.clone();
        for flag in flags {
            let (node, address) = flag
                .split_once('=')
                .ok_or_else(|| ConfigError::Connect(flag.clone()))?;
            all.insert(node.to_owned(), address.to_owned());
        }
        let checked = |(node, address): (String, String)| match with_port(&address) {
            Some(address) if !node.is_empty() => Ok(Connect { node, address }),
            Some(_) | None => Err(ConfigError::Connect(format!("{node}={address}"))),
        };
        all.into_iter().map(checked).collect()
    }
}

/// The settings in a file that has rules too.
fn besides_rules(text: &str) -> Result<Settings, toml::de::Error> {
    let mut file: toml::Table = text.parse()?;
    if let Some(toml::Value::Table(client)) = file.get_mut("client") {
        client.remove("attach");
    }
    file.try_into()
}

fn parse_listen(text: &str) -> Result<SocketAddr, ConfigError> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = text.parse() {
        Ok(address)
    } else if let Ok(address) = bare.parse() {
        Ok(SocketAddr::new(address, DEFAULT_PORT))
    } else {
        Err(ConfigError::Listen(text.to_owned()))
    }
}

/// `HOST:PORT` from `HOST` or `HOST:PORT`, where HOST is a name, an IPv4 address or an IPv6 address
/// with or without brackets; `None` for anything else.
pub fn with_port(text: &str) -> Option<String> {
    if text.is_empty()
        || text
            .chars()
            .any(|c| c.is_control() || c.is_whitespace() || c == ',')
    {
        return None;
    }
    if let Ok(IpAddr::V6(address)) = text.parse() {
        return Some(format!("[{address}]:{DEFAULT_PORT}"));
    }
    if let Some((host, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let address = host.split_once('%').map_or(host, |(address, _)| address);
        address.parse::<Ipv6Addr>().ok()?;
        return match rest.strip_prefix(':') {
            Some(port) => port
                .parse::<u16>()
                .ok()
                .map(|port| format!("[{host}]:{port}")),
            None if rest.is_empty() => Some(format!("[{host}]:{DEFAULT_PORT}")),
            None => None,
        };
    }
    match text.split_once(':') {
        Some(("", _)) => None,
        Some((host, port)) => port
            .parse::<u16>()
            .ok()
            .map(|port| format!("{host}:{port}")),
        None => Some(format!("{text}:{DEFAULT_PORT}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Option<String> {
        parse_listen(text).ok().map(|address| address.to_string())
    }

    #[test]
    fn an_address_to_listen_on_may_leave_out_the_port() {
        for (text, address) in [
            ("[::]:1234", Some("[::]:1234")),
            ("127.0.0.1:1", Some("127.0.0.1:1")),
            ("127.0.0.1", Some("127.0.0.1:7575")),
            ("::1", Some("[::1]:7575")),
            ("[::1]", Some("[::1]:7575")),
            ("localhost", None),
            ("127.0.0.1:99999", None),
            ("", None),
        ] {
            assert_eq!(listen(text).as_deref(), address, "{text}");
        }
    }

    #[test]
    fn an_address_to_connect_to_gets_the_default_port() {
        for (text, address) in [
            ("hub.lan", Some("hub.lan:7575")),
            ("hub.lan:80", Some("hub.lan:80")),
            ("10.0.0.1", Some("10.0.0.1:7575")),
            ("fe80::1", Some("[fe80::1]:7575")),
            ("[fe80::1%eth0]", Some("[fe80::1%eth0]:7575")),
            ("[fe80::1]:80", Some("[fe80::1]:80")),
            ("[hub]:80", None),
            ("hub:", None),
            ("hub:http", None),
            (":80", None),
            ("a b", None),
            ("", None),
        ] {
            assert_eq!(with_port(text).as_deref(), address, "{text}");
        }
    }

    #[test]
    fn a_later_file_and_then_a_flag_win() {
        let dir = tempfile::TempDir::new().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write(
            "10-base.toml",
            "state = '/a'\n[serve]\nlisten = ['::1']\n[client.connect]\nhub = 'x'",
        );
        write(
            "20-more.toml",
            "state = '/b'\n[client.connect]\nshed = 'y:1'\n[client.usb]\nseqnum_limit = 9",
        );
        write("ignored.txt", "nonsense");
        let settings = Settings::load(dir.path()).unwrap();
        let paths = settings.paths(None, Some("/r".into()));
        assert_eq!(
            paths,
            Paths {
                state: "/b".into(),
                run: "/r".into()
            }
        );
        assert_eq!(
            settings.paths(Some("/c".into()), None).state,
            Path::new("/c")
        );
        assert_eq!(
            settings.listen(&[]).unwrap(),
            ["[::1]:7575".parse().unwrap()]
        );
        assert_eq!(settings.listen(&["0.0.0.0:1".to_owned()]).unwrap().len(), 1);
        let connect = settings.connect(&["hub=z".to_owned()]).unwrap();
        let pairs: Vec<_> = connect.iter().map(|c| (&*c.node, &*c.address)).collect();
        assert_eq!(pairs, [("hub", "z:7575"), ("shed", "y:1")]);
        assert!(settings.connect(&["hub".to_owned()]).is_err());
        assert_eq!(settings.client.usb.seqnum_limit, Some(9));
    }

    #[test]
    fn the_file_with_the_rules_may_have_settings_and_may_be_broken() {
        let dir = tempfile::TempDir::new().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        let rules = "[[client.attach]]\nwhatever = 'this is'\n";
        let connect = "[client.connect]\nhub = 'x'\n";
        write("client.toml", &format!("{connect}{rules}"));
        write("other.toml", "[serve]\nlisten = ['::1']");
        let settings = Settings::load(dir.path()).unwrap();
        assert_eq!(settings.connect(&[]).unwrap().len(), 1);
        assert_eq!(settings.left_out, None);
        write("client.toml", &format!("{connect}{rules}[["));
        let settings = Settings::load(dir.path()).unwrap();
        assert!(settings.connect(&[]).unwrap().is_empty());
        assert_eq!(settings.listen(&[]).unwrap().len(), 1);
        assert!(settings.left_out.unwrap().contains("client.toml"));
        write("other.toml", rules);
        let error = Settings::load(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("other.toml") && error.contains("attach"),
            "{error}"
        );
    }

    #[test]
    fn counts_are_read_on_this_machine_alone_and_only_when_asked_for() {
        let settings = |text: &str| toml::from_str::<Settings>(text).unwrap();
        assert_eq!(settings("").metrics(Side::Server).unwrap(), None);
        let both = settings("[metrics]\nlisten = '127.0.0.1:1'\nclient = '/run/c.sock'");
        let at = |text: &str| Listen::parse(text);
        assert_eq!(both.metrics(Side::Server).unwrap(), at("127.0.0.1:1"));
        assert_eq!(both.metrics(Side::Client).unwrap(), at("/run/c.sock"));
        let one = settings("[metrics]\nlisten = '[::1]:1'");
        assert_eq!(one.metrics(Side::Client).unwrap(), at("[::1]:1"));
        let open = settings("[metrics]\nlisten = '0.0.0.0:9575'");
        let error = open.metrics(Side::Server).unwrap_err().to_string();
        assert!(error.contains("0.0.0.0:9575"), "{error}");
    }

    #[test]
    fn without_files_the_whole_machine_listens_on_the_default_port() {
        let settings = Settings::load(Path::new("/nonexistent")).unwrap();
        assert_eq!(
            settings.listen(&[]).unwrap(),
            ["[::]:7575".parse().unwrap()]
        );
    }

    #[test]
    fn an_unknown_key_is_an_error_that_names_file_and_key() {
        let dir = tempfile::TempDir::new().unwrap();
        std::fs::write(dir.path().join("x.toml"), "[serve]\nlissten = []").unwrap();
        let error = Settings::load(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("x.toml") && error.contains("lissten"),
            "{error}"
        );
    }
}
