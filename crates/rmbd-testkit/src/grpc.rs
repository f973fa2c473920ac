//! A client of gRPC that sends bytes, so that it can send what no other client would.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Method, Request};
use http_body::{Body, Frame};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A time far longer than anything takes. Its end is a failure, never a way to pass.
const FAILSAFE: Duration = Duration::from_secs(30);

/// A body of some bytes, which may never end.
pub struct Sent {
    pub bytes: Option<Bytes>,
    pub ends: bool,
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.bytes.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// An answer: its status in gRPC, the words of an error, and the message.
#[derive(Debug)]
pub struct Told {
    pub status: String,
    pub words: String,
    pub message: Vec<u8>,
}

/// A connection. Copies of it ask at the same time.
#[derive(Clone)]
pub struct Client(pub SendRequest<Sent>);

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let shaken = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (send, connection) = shaken.unwrap();
        tokio::spawn(connection);
        Self(send)
    }

    /// Asks with a whole message.
    pub async fn ask(&mut self, path: &str, message: &[u8]) -> Told {
        self.tell(post(path, framed(message), true)).await
    }

    /// Sends a request, and waits for its whole answer.
    pub async fn tell(&mut self, request: Request<Sent>) -> Told {
        let response = timeout(FAILSAFE, self.0.send_request(request)).await;
        let (head, mut body) = response.unwrap().unwrap().into_parts();
        let (mut message, mut trailers) = (Vec::new(), head.headers);
        while let Some(frame) = std::future::poll_fn(|it| Pin::new(&mut body).poll_frame(it)).await
        {
            match frame.unwrap().into_data() {
                Ok(mut data) => message.extend_from_slice(&data.copy_to_bytes(data.remaining())),
                Err(frame) => trailers.extend(frame.into_trailers().unwrap()),
            }
        }
        let text = |name: &str| {
            let value = trailers.get(name);
            value.map_or(String::new(), |value| value.to_str().unwrap().to_owned())
        };
        Told {
            status: text("grpc-status"),
            words: text("grpc-message").replace("%20", " "),
            message: message.get(5..).unwrap_or_default().to_owned(),
        }
    }
}

/// Asks once, by a connection and a runtime of its own.
pub fn ask(address: SocketAddr, path: &str, message: &[u8]) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime
        .unwrap()
        .block_on(async { Client::connect(address).await.ask(path, message).await })
}

/// A message as gRPC sends it.
pub fn framed(message: &[u8]) -> Bytes {
    let length = (message.len() as u32).to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

/// A request with these bytes.
pub fn post(path: &str, bytes: Bytes, ends: bool) -> Request<Sent> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("http://node{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Sent {
            bytes: Some(bytes),
            ends,
        })
        .unwrap()
}
