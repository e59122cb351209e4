//! Serial ports and sockets.

use super::url::Place;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a read waits: a run that is stopped looks so often.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long a write may wait on a board that takes nothing.
const STUCK: Duration = Duration::from_secs(2);

/// Bytes to and from a board. A read that finds nothing for some 20 ms fails with
/// [`io::ErrorKind::TimedOut`] or [`io::ErrorKind::WouldBlock`]; 0 bytes mean that the other side
/// is gone.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// Waits for a board.
pub trait Connect: Send {
    /// A stream if there is one within some 20 ms.
    ///
    /// # Errors
    /// Where there is none and the system says why; worth another try.
    fn connect(&mut self) -> io::Result<Option<Box<dyn Stream>>>;
}

/// A serial port.
struct Serial {
    path: String,
    baud: u32,
}

impl Serial {
    fn new(path: String, baud: u32) -> Serial {
        Serial { path, baud }
    }
}

#[cfg(feature = "serial")]
fn open_serial(path: &str, baud: u32) -> io::Result<Box<dyn Stream>> {
    let port = serialport::new(path, baud).timeout(PATIENCE);
    Ok(Box::new(port.open().map_err(io::Error::from)?))
}

#[cfg(not(feature = "serial"))]
fn open_serial(_path: &str, _baud: u32) -> io::Result<Box<dyn Stream>> {
    let reason = "serial ports need a build with the feature `serial`";
    Err(io::Error::new(io::ErrorKind::Unsupported, reason))
}

impl Connect for Serial {
    fn connect(&mut self) -> io::Result<Option<Box<dyn Stream>>> {
        open_serial(&self.path, self.baud).map(Some)
    }
}

/// Waits a moment where nobody is there.
fn accepted<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(accepted) => Ok(Some(accepted)),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
            std::thread::sleep(PATIENCE);
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// A TCP port.
struct Tcp {
    listener: TcpListener,
}

impl Tcp {
    fn listen(address: SocketAddr) -> io::Result<Tcp> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Tcp { listener })
    }
}

impl Connect for Tcp {
    fn connect(&mut self) -> io::Result<Option<Box<dyn Stream>>> {
        let Some((stream, _)) = accepted(self.listener.accept())? else {
            return Ok(None);
        };
        prepare(&stream)?;
        Ok(Some(Box::new(stream)))
    }
}

/// A TCP stream with the timeouts of a [`Stream`], each write sent at once.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(STUCK))
}

/// A socket file, removed at the end.
#[cfg(unix)]
struct Unix {
    listener: UnixListener,
    path: PathBuf,
}

#[cfg(unix)]
impl Unix {
    fn listen(path: &Path) -> io::Result<Unix> {
        let listener = match UnixListener::bind(path) {
            // One that a killed run left behind is replaced; one that somebody listens on is not.
            Err(e)
                if e.kind() == io::ErrorKind::AddrInUse && UnixStream::connect(path).is_err() =>
            {
                std::fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            bound => bound?,
        };
        listener.set_nonblocking(true)?;
        let path = path.to_owned();
        Ok(Unix { listener, path })
    }
}

#[cfg(unix)]
impl Drop for Unix {
    fn drop(&mut self) {
        // Somebody else may have removed it.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(unix)]
impl Connect for Unix {
    fn connect(&mut self) -> io::Result<Option<Box<dyn Stream>>> {
        let Some((stream, _)) = accepted(self.listener.accept())? else {
            return Ok(None);
        };
        prepare_unix(&stream)?;
        Ok(Some(Box::new(stream)))
    }
}

#[cfg(unix)]
fn prepare_unix(stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(STUCK))
}

/// What waits for the other side at `place`.
///
/// # Errors
/// Where a socket cannot be listened on.
pub(super) fn listen(place: &Place) -> io::Result<Box<dyn Connect>> {
    Ok(match place {
        Place::Serial { path, baud } => Box::new(Serial::new(path.clone(), *baud)),
        Place::Tcp { address } => Box::new(Tcp::listen(*address)?),
        #[cfg(unix)]
        Place::Unix { path } => Box::new(Unix::listen(path)?),
        #[cfg(not(unix))]
        Place::Unix { .. } => return Err(io::ErrorKind::Unsupported.into()),
    })
}

/// Opens the other end of a link: where [`Connect`] listens, this one calls.
pub(super) fn call(place: &Place) -> io::Result<Box<dyn Stream>> {
    Ok(match place {
        Place::Serial { path, baud } => open_serial(path, *baud)?,
        Place::Tcp { address } => {
            let stream = TcpStream::connect(address)?;
            prepare(&stream)?;
            Box::new(stream)
        }
        #[cfg(unix)]
        Place::Unix { path } => {
            let stream = UnixStream::connect(path)?;
            prepare_unix(&stream)?;
            Box::new(stream)
        }
        #[cfg(not(unix))]
        Place::Unix { .. } => return Err(io::ErrorKind::Unsupported.into()),
    })
}

/// A read that timed out.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
