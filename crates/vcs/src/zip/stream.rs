//! A zip as it is read: made once more, from where it stopped, if what it is made of turns out to be damaged on the way or the
//! program that reads it dies.

use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use gomod::{ModulePath, Version};
use tokio::sync::mpsc::Receiver;

use crate::repository::Trouble;
use crate::{Direct, DirectError, ErrorKind};

/// A module zip on its way: blocks of bytes, the same for the same version every time. An error ends it; without one
/// it is whole when the blocks end. Dropping it ends the work.
#[derive(Debug)]
pub struct ZipStream {
    blocks: Receiver<Result<Bytes, Trouble>>,
    again: Option<Again>,
    /// Bytes that were handed out.
    passed: u64,
    /// Bytes to come that were handed out before.
    skip: u64,
}

/// What to ask once more.
#[derive(Debug)]
pub(crate) struct Again {
    pub(crate) direct: Arc<Direct>,
    pub(crate) module: ModulePath,
    pub(crate) version: Version,
    pub(crate) pin: Option<String>,
}

impl ZipStream {
    pub(crate) fn new(blocks: Receiver<Result<Bytes, Trouble>>, again: Option<Again>) -> Self {
        Self {
            blocks,
            again,
            passed: 0,
            skip: 0,
        }
    }

    /// The next block; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, DirectError>> {
        loop {
            match self.blocks.recv().await {
                Some(Ok(mut block)) => {
                    let known = block
                        .len()
                        .min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                    block.advance(known);
                    self.skip -= known as u64;
                    if !block.is_empty() {
                        self.passed += block.len() as u64;
                        return Some(Ok(block));
                    }
                }
                Some(Err(trouble @ (Trouble::Mirror(_) | Trouble::Killed(_)))) => {
                    match self.again.take() {
                        Some(again) => {
                            if let Err(error) = self.make_again(again).await {
                                return Some(Err(error));
                            }
                        }
                        None => return Some(Err(trouble.into())),
                    }
                }
                Some(Err(trouble)) => return Some(Err(trouble.into())),
                None if self.skip > 0 => {
                    self.skip = 0;
                    let text = "made anew from another mirror it is another zip";
                    return Some(Err(DirectError::new(ErrorKind::Disk, text)));
                }
                None => return None,
            }
        }
    }

    /// Goes on where it stopped, perhaps with a mirror that is made anew: the same files make the same bytes, and if they
    /// are not the same after all the zip does not pass its check.
    async fn make_again(&mut self, again: Again) -> Result<(), DirectError> {
        let Again {
            direct,
            module,
            version,
            pin,
        } = again;
        self.blocks = direct.zip_blocks(&module, &version, pin.as_deref()).await?;
        self.skip = self.passed;
        Ok(())
    }
}
