//! MessagePack
