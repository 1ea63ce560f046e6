//! PWM channels (0x0628 and 0x0629 of profile 19.6): sysfs on the side that has them.
