//! The memory that all requests share while they are received.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tonic::Status;

use crate::bounds::{MESSAGE_BYTES_MAX, RECEIVED_BYTES_MAX};

/// Bytes that gRPC puts before a message.
const PREFIX_BYTES: usize = 5;

/// The bytes of all requests that are being received.
#[derive(Debug, Default)]
pub(crate) struct Room(AtomicUsize);

/// A request's body, which takes room until it is dropped.
pub(crate) struct Bounded<B> {
    body: B,
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    pub(crate) fn bounded<B>(self: &Arc<Self>, body: B) -> Bounded<B> {
        Bounded {
            body,
            room: Arc::clone(self),
            bytes: 0,
        }
    }

    #[cfg(test)]
    pub(crate) fn taken_bytes(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl<B> Bounded<B> {
    fn grow(&mut self, bytes: usize) -> Result<(), Status> {
        let before = self.room.0.fetch_add(bytes, Relaxed);
        self.bytes += bytes;
        if self.bytes > MESSAGE_BYTES_MAX + PREFIX_BYTES {
            return Err(Status::resource_exhausted(format!(
                "a request has at most {MESSAGE_BYTES_MAX} bytes: send several"
            )));
        }
        match before + bytes <= RECEIVED_BYTES_MAX {
            true => Ok(()),
            false => Err(Status::unavailable(
                "too many large requests are under way: ask again",
            )),
        }
    }
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = frame.map_err(|_| Status::cancelled("the request broke off"));
        Poll::Ready(Some(frame.and_then(|frame| {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.grow(bytes).map(|()| frame)
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Bounded<B> {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Relaxed);
    }
}
