/*
 * The raw floor: the calls of a launch from C, one domain after the other, and nothing else: no Node, no agent, no XenAPI. What is left of a
 * launch's time is Xen's, the store daemon's and the kernel's. It shares the addon's sources, so it makes the same calls.
 *
 * floor image=FILE image-memory-bytes=N virt-base=0xN entry=0xN [hypercall-page=0xN] count=N [memory-kib=4096] [vif=1] [bridge=xenbr0]
 *       [first=10.64.1.0] [gateway=10.64.0.1] [keep=0] [wired=0] [shared-pages=0]
 *       [guest-cpus=0xN]
 * wired=1 wires the vif to the switch; shared-pages are those of the image that all domains share.
 * FILE holds the loaded image (KernelImage.pages). Prints CSV, milliseconds a step, then one line of JSON.
 */
#include "floor.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "bridge.h"
#include "builder.h"
#include "control.h"
#include "netlink.h"
#include "template.h"

enum { STEPS = 6, MOST_EVENT_PORT = 127, MOST_GRANT_FRAMES = 8, LINK_WAIT_MS = 15000 };

static const char *const step_names[STEPS] = { "create", "build", "register", "attachVif", "seal", "unpause" };
static int argument_count;
static char **arguments;

static const char *option(const char *name, const char *otherwise)
{
  size_t length = strlen(name);

  for (int i = 1; i < argument_count; i++)
    if (strncmp(arguments[i], name, length) == 0 && arguments[i][length] == '=') return arguments[i] + length + 1;
  if (!otherwise) {
    fprintf(stderr, "floor: %s=… is missing\n", name);
    exit(2);
  }
  return otherwise;
}

static void check(int status, const struct failure *failure)
{
  if (status == 0) return;
  fprintf(stderr, "floor: %s: %s\n", failure->call, strerror(failure->error));
  exit(1);
}

static double now_ms(void)
{
  struct timespec time;

  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static uint8_t *read_file(const char *path, size_t *length)
{
  FILE *file = fopen(path, "rb");
  uint8_t *bytes = malloc(64 << 20);

  if (!file || !bytes) {
    perror(path);
    exit(1);
  }
  *length = fread(bytes, 1, 64 << 20, file);
  fclose(file);
  return bytes;
}

struct wanted {
  char name[LINK_NAME_BYTES];
  int32_t index;
};

static int match(void *context, const struct link *link)
{
  struct wanted *wanted = context;

  if (!link->gone && strcmp(link->name, wanted->name) == 0) wanted->index = link->index;
  return 0;
}

static int32_t wait_for_link(int news, unsigned domid)
{
  struct pollfd poller = { .fd = news, .events = POLLIN };
  struct failure failure;
  struct wanted wanted = { .index = 0 };
  double until = now_ms() + LINK_WAIT_MS;

  snprintf(wanted.name, sizeof wanted.name, "vif%u.0", domid);
  while (!wanted.index) {
    check(netlink_read_links(news, match, &wanted, &failure), &failure);
    if (wanted.index) break;
    if (now_ms() > until || poll(&poller, 1, LINK_WAIT_MS) <= 0) {
      fprintf(stderr, "floor: no link %s\n", wanted.name);
      exit(1);
    }
  }
  return wanted.index;
}

static int by_size(const void *a, const void *b)
{
  double difference = *(const double *)a - *(const double *)b;

  return difference < 0 ? -1 : difference > 0;
}

static double median(const double *values, size_t count, size_t stride)
{
  double *sorted = malloc(count * sizeof *sorted), result;

  for (size_t i = 0; i < count; i++) sorted[i] = values[i * stride];
  qsort(sorted, count, sizeof *sorted, by_size);
  result = sorted[count / 2];
  free(sorted);
  return result;
}

static void launch(struct control *control, struct builder *builder, int store, int uplink, int news, int netlink,
                   struct build_request *request, unsigned number, double times[STEPS + 1], unsigned *changes)
{
  struct domain_limits limits = { .memory_pages = request->memory_pages, .max_event_port = MOST_EVENT_PORT,
                                  .max_grant_frames = MOST_GRANT_FRAMES, .wired_vifs = request->vif_count };
  struct in_addr address = { .s_addr = htonl(ntohl(inet_addr(option("first", "10.64.1.0"))) + number) };
  int with_vif = atoi(option("vif", "1"));
  struct build_result result;
  struct failure failure;
  uint8_t handle[16];
  char name[32], record[96], command_line[COMMAND_LINE_BYTES];
  struct store_vif vif;
  const uint8_t mac[6] = { 2, 0x16, 0x3e, (uint8_t)(number >> 16), (uint8_t)(number >> 8), (uint8_t)number };
  double at[STEPS + 1];

  if (getrandom(handle, sizeof handle, 0) != sizeof handle) exit(1);
  snprintf(name, sizeof name, "floor-%u", number);
  snprintf(vif.mac, sizeof vif.mac, "02:16:3e:%02x:%02x:%02x", number >> 16 & 255, number >> 8 & 255, number & 255);
  snprintf(command_line, sizeof command_line, "name=%s ip=%s/16 gw=%s", name, inet_ntoa(address), option("gateway", "10.64.0.1"));
  snprintf(record, sizeof record, "{\"name\":\"%s\"}", name);

  at[0] = now_ms();
  check(control_create(control, handle, &limits, &request->domid, &failure), &failure);
  at[1] = now_ms();
  check(builder_build(builder, request, &result, &failure), &failure);
  check(builder_name(builder, request->domid, result.start_info_mfn, &(struct naming){ command_line, &mac, request->vif_count }, &failure), &failure);
  at[2] = now_ms();
  if (request->wired) {
    if (with_vif)
      switch_ask(uplink, 2, "attach %u.0 network=default tx=%lu rx=%lu port=%u\nidentity %u.0 mac=%s ip=%s\n", request->domid,
                 result.vifs[0].tx_mfn, result.vifs[0].rx_mfn, FIRST_VIF_PORT, request->domid, vif.mac, inet_ntoa(address));
    at[3] = at[4] = now_ms();
    *changes = store_name(store, request->domid, name, record);
    at[5] = now_ms();
    check(control_unpause(control, request->domid, &failure), &failure);
    at[6] = now_ms();
    goto done;
  }
  *changes = store_register(store, request->domid, name, with_vif ? &vif : NULL, result.store_mfn, STORE_PORT) + 1;
  at[3] = now_ms();
  if (with_vif) {
    static struct batch batch;
    struct port port = { .vif = wait_for_link(news, request->domid), .address_count = 1 };

    port.bridge = port.root = (int32_t)if_nametoindex(option("bridge", "xenbr0"));
    memcpy(port.mac, mac, 6);
    memcpy(port.addresses[0], &address, 4);
    batch_reset(&batch);
    bridge_attach(&batch, &port);
    check(netlink_send(netlink, &batch, &failure), &failure);
  }
  at[4] = now_ms();
  store_seal(store, request->domid, record);
  at[5] = now_ms();
  check(control_unpause(control, request->domid, &failure), &failure);
  at[6] = now_ms();
done:
  for (unsigned i = 0; i < STEPS; i++) times[i] = at[i + 1] - at[i];
  times[STEPS] = at[STEPS] - at[0];
}

static void destroy(struct control *control, int store, int uplink, int netlink, unsigned domid, unsigned number)
{
  struct in_addr address = { .s_addr = htonl(ntohl(inet_addr(option("first", "10.64.1.0"))) + number) };
  struct port port = { .address_count = 1, .root = (int32_t)if_nametoindex(option("bridge", "xenbr0")) };
  static struct batch batch;
  struct failure failure;

  memcpy(port.addresses[0], &address, 4);
  batch_reset(&batch);
  if (uplink >= 0) {
    switch_ask(uplink, 1, "detach %u\n", domid);
  } else {
    bridge_detach(&batch, &port);
    check(netlink_send(netlink, &batch, &failure), &failure);
  }
  check(control_destroy(control, (uint16_t)domid, &failure), &failure);
  store_remove(store, domid);
}

int main(int count_of_arguments, char **words)
{
  struct build_request request = { 0 };
  struct failure failure;
  struct control *control;
  struct builder *builder;
  unsigned changes = 0, *domids, count;
  int store, uplink = -1, news, netlink;
  struct template template;
  double *times, began;
  uint8_t guest_cpus;

  argument_count = count_of_arguments;
  arguments = words;
  count = (unsigned)strtoul(option("count", NULL), NULL, 10);
  request.image = read_file(option("image", NULL), &request.image_bytes);
  request.image_memory_bytes = strtoull(option("image-memory-bytes", NULL), NULL, 0);
  request.virt_base = strtoull(option("virt-base", NULL), NULL, 0);
  request.entry = strtoull(option("entry", NULL), NULL, 0);
  request.hypercall_page = strtoull(option("hypercall-page", "0"), NULL, 0);
  request.has_hypercall_page = request.hypercall_page != 0;
  request.memory_pages = strtoull(option("memory-kib", "4096"), NULL, 10) / 4;
  times = calloc((size_t)count * (STEPS + 1) + 1, sizeof *times);
  domids = calloc(count + 1, sizeof *domids);
  if (!times || !domids) return 1;
  guest_cpus = (uint8_t)strtoul(option("guest-cpus", "0"), NULL, 0);
  if (!(control = control_open(&guest_cpus, guest_cpus ? 1 : 0, &failure)) || !(builder = builder_open(control, &failure))) check(-1, &failure);
  store = store_connect();
  request.wired = atoi(option("wired", "0"));
  if (request.wired && atoi(option("vif", "1"))) {
    request.vif_count = 1;
    uplink = switch_connect();
    switch_ask(uplink, 1, "network default bridge=%s\n", option("bridge", "xenbr0"));
  }
  template.pages = strtoull(option("shared-pages", "0"), NULL, 10);
  if (template.pages > 0) {
    uint8_t nobody[32] = { 0 };

    check(template_make(builder, nobody, nobody, request.image, template.pages, &template, &failure), &failure);
    request.template = &template;
  }
  if ((news = netlink_watch_links(&failure)) < 0 || (netlink = netlink_open(&failure)) < 0) check(-1, &failure);

  printf("n,domid");
  for (unsigned i = 0; i < STEPS; i++) printf(",%s", step_names[i]);
  printf(",total\n");
  for (unsigned n = 0; n < count; n++) {
    double *row = times + (size_t)n * (STEPS + 1);

    launch(control, builder, store, uplink, news, netlink, &request, n, row, &changes);
    domids[n] = request.domid;
    printf("%u,%u", n, request.domid);
    for (unsigned i = 0; i <= STEPS; i++) printf(",%.2f", row[i]);
    printf("\n");
  }
  printf("{\"count\":%u,\"storeChangesPerDomain\":%u", count, changes);
  for (unsigned i = 0; count > 0 && i < STEPS; i++) printf(",\"%s\":%.2f", step_names[i], median(times + i, count, STEPS + 1));
  if (count > 0) {
    size_t some = count < 50 ? count : 50;

    printf(",\"first50\":%.2f,\"last50\":%.2f", median(times + STEPS, some, STEPS + 1),
           median(times + (count - some) * (STEPS + 1) + STEPS, some, STEPS + 1));
  }
  if (!atoi(option("keep", "0"))) {
    began = now_ms();
    for (unsigned n = 0; n < count; n++) destroy(control, store, uplink, netlink, domids[n], n);
    printf(",\"destroyMsPerDomain\":%.2f", count ? (now_ms() - began) / count : 0);
    if (request.template) check(control_destroy(control, template.domid, &failure), &failure);
  }
  printf("}\n");
  builder_close(builder);
  control_close(control);
  return 0;
}
