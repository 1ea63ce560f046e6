//! CAN (profile 19.8): a SocketCAN interface on the side that has the bus, vcan or vxcan on the
//! side that uses it.
