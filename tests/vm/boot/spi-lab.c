// SPDX-License-Identifier: GPL-2.0
/*
 * An SPI controller without hardware, with two devices that the kernel's spidev drives: at chip
 * select 0 MOSI is wired to MISO, at chip select 1 there is a flash chip as a Winbond W25X10 is.
 *
 * Below /sys/kernel/debug/spi-lab: `log` has a line for each message and each transfer until it is
 * full, and is emptied by writing to it; `flash` is what the chip holds; `fail` is the errno of the
 * next message, once.
 */
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/platform_device.h>
#include <linux/spi/spi.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#define LOG_SIZE (1 << 20)
#define FLASH_SIZE (128 << 10)
#define PAGE_BYTES 256
#define STATUS_WRITABLE 2

struct flash {
	u8 *memory;
	/* The byte that comes next since the chip was selected. */
	unsigned int position;
	u8 command;
	u32 address;
	u8 status;
	u8 page[PAGE_BYTES];
	unsigned int written;
	bool selected;
};

static struct platform_device *platform;
static struct spi_controller *controller;
static struct dentry *directory;
static struct debugfs_blob_wrapper blob = { .size = FLASH_SIZE };
static struct flash flash;
static char *log_text;
static size_t log_length;
static DEFINE_MUTEX(log_lock);
static u32 fail;

static __printf(1, 2) void note(const char *format, ...)
{
	va_list arguments;

	mutex_lock(&log_lock);
	va_start(arguments, format);
	log_length += vscnprintf(log_text + log_length, LOG_SIZE - log_length, format, arguments);
	va_end(arguments);
	mutex_unlock(&log_lock);
}

static void flash_select(void)
{
	flash.position = 0;
	flash.address = 0;
	flash.written = 0;
	flash.selected = true;
}

static void flash_erase(u32 size)
{
	/* A command that is not clocked to its last address bit does nothing. */
	if (flash.position == 4 && flash.status & STATUS_WRITABLE)
		memset(flash.memory + (flash.address & ~(size - 1)), 0xff, size);
	flash.status &= ~STATUS_WRITABLE;
}

static void flash_program(void)
{
	unsigned int i;

	if (flash.written && flash.status & STATUS_WRITABLE) {
		u32 page = flash.address & ~(PAGE_BYTES - 1);

		for (i = 0; i < PAGE_BYTES; i++)
			flash.memory[page + i] &= flash.page[i];
	}
	flash.status &= ~STATUS_WRITABLE;
}

/* What was commanded happens when the chip is no longer selected. */
static void flash_deselect(void)
{
	if (!flash.selected)
		return;
	flash.selected = false;
	if (!flash.position)
		return;
	switch (flash.command) {
	case 0x06:
		flash.status |= STATUS_WRITABLE;
		break;
	case 0x04:
		flash.status &= ~STATUS_WRITABLE;
		break;
	case 0x02:
		flash_program();
		break;
	case 0x20:
		flash_erase(4 << 10);
		break;
	case 0x52:
		flash_erase(32 << 10);
		break;
	case 0xd8:
		flash_erase(64 << 10);
		break;
	case 0x60:
	case 0xc7:
		if (flash.status & STATUS_WRITABLE)
			memset(flash.memory, 0xff, FLASH_SIZE);
		flash.status &= ~STATUS_WRITABLE;
		break;
	}
}

static u8 flash_data(u8 in, unsigned int first)
{
	static const u8 id[] = { 0xef, 0x30, 0x11 };
	unsigned int at = flash.position - first;

	switch (flash.command) {
	case 0x9f:
		return at < sizeof(id) ? id[at] : 0;
	case 0x05:
		return flash.status;
	case 0x90:
		return (flash.address + at) & 1 ? 0x10 : 0xef;
	case 0xab:
		return 0x10;
	case 0x03:
	case 0x0b:
		return flash.memory[(flash.address + at) & (FLASH_SIZE - 1)];
	case 0x02:
		/* Within the page it begins at its start again. */
		flash.page[(flash.address + at) & (PAGE_BYTES - 1)] = in;
		flash.written++;
		return 0xff;
	}
	return 0xff;
}

static u8 flash_byte(u8 in)
{
	bool addressed = true;
	unsigned int first;
	u8 out = 0xff;

	if (flash.position == 0) {
		flash.command = in;
		memset(flash.page, 0xff, sizeof(flash.page));
		flash.position++;
		return out;
	}
	switch (flash.command) {
	case 0x9f:
	case 0x05:
		addressed = false;
		break;
	}
	first = addressed ? 4 : 1;
	if (flash.command == 0x0b)
		first = 5;
	if (addressed && flash.position < 4)
		flash.address = (flash.address << 8 | in) & (FLASH_SIZE - 1);
	else if (flash.position >= first)
		out = flash_data(in, first);
	flash.position++;
	return out;
}

static void transfer(struct spi_device *spi, struct spi_transfer *part)
{
	const u8 *tx = part->tx_buf;
	u8 *rx = part->rx_buf;
	unsigned int i;

	for (i = 0; i < part->len; i++) {
		u8 in = tx ? tx[i] : 0;
		u8 out = spi_get_chipselect(spi, 0) ? flash_byte(in) : in;

		if (rx)
			rx[i] = out;
	}
	note("cs%d mode=0x%x bits=%d hz=%u len=%u %s%s nbits=%d/%d delay=%d word-delay=%d cs-change=%d\n",
	     spi_get_chipselect(spi, 0), spi->mode, part->bits_per_word, part->speed_hz, part->len,
	     tx ? "t" : "-", rx ? "r" : "-", part->tx_nbits, part->rx_nbits, part->delay.value,
	     part->word_delay.value, part->cs_change);
}

static int lab_message(struct spi_controller *ctlr, struct spi_message *message)
{
	struct spi_device *spi = message->spi;
	bool is_flash = spi_get_chipselect(spi, 0);
	struct spi_transfer *part;

	message->status = -(int)xchg(&fail, 0);
	note("message cs%d\n", spi_get_chipselect(spi, 0));
	if (message->status)
		goto done;
	if (is_flash && !flash.selected)
		flash_select();
	list_for_each_entry(part, &message->transfers, transfer_list) {
		bool last = list_is_last(&part->transfer_list, &message->transfers);

		transfer(spi, part);
		message->actual_length += part->len;
		/* At the end it says that the chip stays selected, before that the other way round. */
		if (is_flash && part->cs_change != last) {
			flash_deselect();
			if (!last)
				flash_select();
		}
	}
done:
	spi_finalize_current_message(ctlr);
	return 0;
}

static ssize_t log_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	ssize_t length;

	mutex_lock(&log_lock);
	length = simple_read_from_buffer(to, count, at, log_text, log_length);
	mutex_unlock(&log_lock);
	return length;
}

static ssize_t log_write(struct file *file, const char __user *from, size_t count, loff_t *at)
{
	mutex_lock(&log_lock);
	log_length = 0;
	mutex_unlock(&log_lock);
	return count;
}

static const struct file_operations log_operations = {
	.owner = THIS_MODULE,
	.read = log_read,
	.write = log_write,
	.llseek = default_llseek,
};

static int lab_probe(struct platform_device *pdev)
{
	struct spi_board_info info = {
		.modalias = "dh2228fv",
		.max_speed_hz = 10000000,
	};
	int error;

	controller = devm_spi_alloc_host(&pdev->dev, 0);
	if (!controller)
		return -ENOMEM;
	controller->bus_num = -1;
	controller->num_chipselect = 2;
	controller->mode_bits = SPI_MODE_X_MASK | SPI_CS_HIGH | SPI_LSB_FIRST | SPI_3WIRE | SPI_LOOP |
				SPI_NO_CS | SPI_TX_DUAL | SPI_TX_QUAD | SPI_RX_DUAL | SPI_RX_QUAD;
	controller->bits_per_word_mask = SPI_BPW_RANGE_MASK(4, 32);
	controller->max_speed_hz = 50000000;
	controller->transfer_one_message = lab_message;
	error = devm_spi_register_controller(&pdev->dev, controller);
	if (error)
		return error;
	for (info.chip_select = 0; info.chip_select < 2; info.chip_select++) {
		/* The second one is wired for mode 3 and nobody has to say so. */
		info.mode = info.chip_select ? SPI_MODE_3 : SPI_MODE_0;
		if (!spi_new_device(controller, &info))
			return -ENODEV;
	}
	return 0;
}

static struct platform_driver lab_driver = {
	.probe = lab_probe,
	.driver = { .name = "spi-lab" },
};

static void lab_free(void)
{
	debugfs_remove_recursive(directory);
	vfree(flash.memory);
	vfree(log_text);
}

static int __init lab_init(void)
{
	int error = -ENOMEM;

	flash.memory = vmalloc(FLASH_SIZE);
	log_text = vmalloc(LOG_SIZE);
	if (!flash.memory || !log_text)
		goto free;
	memset(flash.memory, 0xff, FLASH_SIZE);
	blob.data = flash.memory;
	directory = debugfs_create_dir("spi-lab", NULL);
	debugfs_create_file("log", 0600, directory, NULL, &log_operations);
	debugfs_create_blob("flash", 0400, directory, &blob);
	debugfs_create_u32("fail", 0600, directory, &fail);
	error = platform_driver_register(&lab_driver);
	if (error)
		goto free;
	platform = platform_device_register_simple("spi-lab", PLATFORM_DEVID_NONE, NULL, 0);
	if (!IS_ERR(platform))
		return 0;
	error = PTR_ERR(platform);
	platform_driver_unregister(&lab_driver);
free:
	lab_free();
	return error;
}

static void __exit lab_exit(void)
{
	platform_device_unregister(platform);
	platform_driver_unregister(&lab_driver);
	lab_free();
}

module_init(lab_init);
module_exit(lab_exit);
MODULE_DESCRIPTION("An SPI controller without hardware");
MODULE_LICENSE("GPL");
