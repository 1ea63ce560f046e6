// SPDX-License-Identifier: GPL-2.0
/*
 * A PWM chip of two channels without hardware, so that a guest has the kernel's own sysfs interface
 * of one. Debian's kernels have no driver for a chip that QEMU emulates, and none that emulates one.
 */
#include <linux/err.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/pwm.h>

#define CHANNELS 2
#define SHORTEST_NS 1000

static struct platform_device *device;

/* The kernel's core remembers the state of each channel; a new one has no period. */
static int lab_apply(struct pwm_chip *chip, struct pwm_device *pwm, const struct pwm_state *state)
{
	return state->period && state->period < SHORTEST_NS ? -EINVAL : 0;
}

static const struct pwm_ops lab_ops = {
	.apply = lab_apply,
};

static int lab_probe(struct platform_device *pdev)
{
	struct pwm_chip *chip = devm_pwmchip_alloc(&pdev->dev, CHANNELS, 0);

	if (IS_ERR(chip))
		return PTR_ERR(chip);
	chip->ops = &lab_ops;
	return devm_pwmchip_add(&pdev->dev, chip);
}

static struct platform_driver lab_driver = {
	.probe = lab_probe,
	.driver = { .name = "pwm-lab" },
};

static int __init lab_init(void)
{
	int error = platform_driver_register(&lab_driver);

	if (error)
		return error;
	device = platform_device_register_simple("pwm-lab", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(device)) {
		platform_driver_unregister(&lab_driver);
		return PTR_ERR(device);
	}
	return 0;
}

static void __exit lab_exit(void)
{
	platform_device_unregister(device);
	platform_driver_unregister(&lab_driver);
}

module_init(lab_init);
module_exit(lab_exit);
MODULE_DESCRIPTION("A PWM chip without hardware");
MODULE_LICENSE("GPL");
