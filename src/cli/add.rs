//! `rmbd add`

use super::keys::{Next, Stop, for_each};
use super::{AddOptions, CliError, Streams};
use crate::wire::legacy::Dialect;

/// Adds keys in bounded bursts; those of a slow input as they come.
pub(super) fn run(options: &AddOptions, streams: &mut Streams<'_>) -> Result<(), CliError> {
    let mut client = options.server.connect(Dialect::default())?;
    let mut adder = client.adder()?;
    let read = for_each(&options.keys, &mut streams.input, |next| {
        match next {
            Next::Key(key) => {
                for _ in 0..options.weight {
                    adder.push(key)?;
                }
            }
            Next::Pause => {
                adder.flush()?;
            }
        }
        Ok(())
    });
    if let Err(Stop::Taker(error)) = read {
        return Err(error);
    }
    let done = format!("{} adds were done", adder.finish()?);
    match read {
        Ok(0) => Ok(()),
        Ok(skipped) => Err(CliError::KeysTooLong { skipped, done }),
        Err(Stop::Input(source)) => Err(CliError::Input { source, done }),
        Err(Stop::Taker(error)) => Err(error),
    }
}
