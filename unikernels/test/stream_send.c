/*
 * The packetizer as a Linux program: sends a body as datagrams, and says how fast.
 *   stream_send SINK MODE BLOCK_BYTES SOURCE SECONDS [ADDRESS:PORT MAC SOURCE_ADDRESS]
 * SINK: null (buffers as netfront's, written to and dropped) or the name of an interface (frames go out by AF_PACKET). MODE: plain, ts,
 * ts-paced, rtp or rtp-paced. SOURCE: zeros:BYTES or nulls:BYTES (TS null packets) in RAM, store:BYTES (in the object store in RAM), disk:FILE (of which BYTES is its size) or a file,
 * read into RAM first. SECONDS: it is sent again and again for so long; 0: once.
 * One line of JSON at the end.
 */
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "config.h"
#include "loop.h"
#include "platform.h"
#include "../apps/minicache/store_disk.h"
#include "../apps/minicache/stream.h"

/* ---- the platform, as far as it is needed ---- */

static uint64_t start_ns;

static uint64_t clock_ns(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

uint64_t shoal_now_ns(void) { return clock_ns(CLOCK_MONOTONIC) - start_ns; }
uint64_t shoal_wall_ns(void) { return clock_ns(CLOCK_REALTIME); }
void *shoal_alloc(size_t size_bytes) { return malloc(size_bytes); }
void shoal_free(void *memory) { free(memory); }
void platform_console_write(const char *text, size_t length) { fwrite(text, 1, length, stderr); }
void platform_crash(void) { abort(); }
bool platform_handle_events(void) { return false; }
void platform_wait(uint64_t due_ns) {
  uint64_t now = shoal_now_ns();
  if (due_ns <= now || due_ns == TIMER_NEVER) return;
  struct timespec rest = {(time_t)((due_ns - now) / 1000000000ull), (long)((due_ns - now) % 1000000000ull)};
  nanosleep(&rest, NULL);
}

/* ---- the sink: buffers in a row, as netfront's are ---- */

#define BUFFERS 128u
#define BUFFER_BYTES 2048u
static uint8_t *buffers;
static struct mmsghdr messages[BUFFERS];
static struct iovec vectors[BUFFERS];
static unsigned next, queued;
static int packet = -1;
static uint64_t frame_bytes, lost;

static void send_all(void) {
  for (unsigned sent = 0; packet >= 0 && sent < queued;) {
    int count = sendmmsg(packet, messages + sent, queued - sent, 0);
    if (count <= 0) {
      lost++;
      count = 1;
    }
    sent += (unsigned)count;
  }
  next = queued = 0;
}

uint8_t *shoal_net_reserve(struct shoal_net *net) {
  (void)net;
  return buffers + next * BUFFER_BYTES;
}

void shoal_net_commit(struct shoal_net *net, size_t length_bytes, uint32_t flags) {
  (void)net, (void)flags;
  vectors[queued] = (struct iovec){buffers + next * BUFFER_BYTES, length_bytes};
  messages[queued].msg_hdr = (struct msghdr){.msg_iov = &vectors[queued], .msg_iovlen = 1};
  frame_bytes += length_bytes;
  next++, queued++;
  if (next == BUFFERS) send_all();
}

static void open_sink(const char *name) {
  buffers = aligned_alloc(4096, BUFFERS * BUFFER_BYTES);
  memset(buffers, 0, BUFFERS * BUFFER_BYTES);
  if (strcmp(name, "null") == 0) return;
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(name)};
  int yes = 1;
  packet = socket(AF_PACKET, SOCK_RAW, 0);
  if (packet < 0 || address.sll_ifindex == 0 || bind(packet, (struct sockaddr *)&address, sizeof address) != 0) {
    fprintf(stderr, "%s: cannot be sent to\n", name);
    exit(2);
  }
  setsockopt(packet, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof yes);
}

/* ---- the source ---- */

static struct stream_object from_object;
static struct stream_device from_device;
static struct store *store;
static void on_up(void *context) { (void)context; }
static const struct shoal_block_events block_events = {.up = on_up};

static void turn(void) {
  loop_turn();
  send_all();
}

static void fill_store(uint64_t length) {
  struct store_config config = {.ram_bytes = length + length / 4 + (4u << 20)};
  uint8_t key[STORE_KEY_BYTES] = {1}, digest[32] = {0}, *bytes = calloc(1, STORE_CHUNK_BYTES);
  if (store_open(&store, &config) != 0) exit(2);
  struct object *object = store_create(store, key, "", 0, length, NULL);
  if (object == NULL) exit(2);
  for (uint64_t at = 0; at < length;) {
    uint64_t rest = length - at;
    int64_t taken = object_append(object, bytes, rest < STORE_CHUNK_BYTES ? rest : STORE_CHUNK_BYTES);
    if (taken < 0) exit(2);
    at += (uint64_t)taken;
  }
  object_complete(object, digest);
  free(bytes);
  from_object.object = object;
}

static void open_source(const char *name, uint32_t block_bytes, struct stream_config *config) {
  uint64_t length = strtoull(strchr(name, ':') == NULL ? "0" : strchr(name, ':') + 1, NULL, 10);
  if (strncmp(name, "store:", 6) == 0) {
    fill_store(length);
    config->source = stream_from_object(&from_object);
    config->context = &from_object;
  } else if (strncmp(name, "disk:", 5) == 0) {
    char line[512];
    config_init(line, shoal_format(line, sizeof line, "disk=%s ", name + 5));
    from_device.device = shoal_block_open(0, &block_events, NULL, NULL, 0);
    if (from_device.device == NULL) exit(2);
    from_device.buffers = aligned_alloc(4096, (size_t)STREAM_SLOTS * block_bytes);
    config->source = stream_from_device(shoal_block_info(from_device.device).size_bytes);
    config->context = &from_device;
  } else {
    uint8_t *bytes;
    if (strncmp(name, "nulls:", 6) == 0) {
      length -= length % STREAM_TS_BYTES;
      bytes = calloc(1, length);
      for (uint64_t at = 0; at < length; at += STREAM_TS_BYTES) memcpy(bytes + at, "\x47\x1f\xff\x10", 4);
    } else if (strncmp(name, "zeros:", 6) == 0) {
      bytes = malloc(length);
      memset(bytes, 0x5a, length);
    } else {
      FILE *file = fopen(name, "rb");
      struct stat about;
      if (file == NULL || fstat(fileno(file), &about) != 0) exit(2);
      length = (uint64_t)about.st_size;
      bytes = malloc(length);
      if (fread(bytes, 1, length, file) != length) exit(2);
    }
    config->source = stream_from_memory(length);
    config->context = bytes;
  }
}

static int how = STREAM_RUNS;
static void on_ended(struct stream *stream, int end) {
  (void)stream;
  how = end;
}

int main(int count, char **words) {
  static struct stream stream;
  struct stream_config config = {.ended = on_ended, .target = {.source_mac = {2, 0, 0, 0, 0, 1}, .mac = {2, 0, 0, 0, 0, 2}, .source_address = 0x0a400101,
                                                               .address = 0x0a400102, .source_port = 5004, .port = 5004}};
  if (count < 6) return 2;
  open_sink(words[1]);
  config.mode = strncmp(words[2], "plain", 5) == 0 ? STREAM_PLAIN : strncmp(words[2], "rtp", 3) == 0 ? STREAM_RTP : STREAM_TS;
  config.paced = strstr(words[2], "-paced") != NULL;
  config.block_bytes = (uint32_t)atoi(words[3]);
  open_source(words[4], config.block_bytes, &config);
  double seconds = atof(words[5]);
  if (count >= 9) {
    char *port = strchr(words[6], ':');
    *port = '\0';
    config.target.address = ntohl(inet_addr(words[6]));
    config.target.port = (uint16_t)atoi(port + 1);
    unsigned mac[6] = {0};
    sscanf(words[7], "%x:%x:%x:%x:%x:%x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4], &mac[5]);
    for (unsigned i = 0; i < 6; i++) config.target.mac[i] = (uint8_t)mac[i];
    if (config.target.address >> 28 == 0xe) stream_group_mac(config.target.address, config.target.mac);
    config.target.source_address = ntohl(inet_addr(words[8]));
  }
  start_ns = clock_ns(CLOCK_MONOTONIC) - 1;
  uint64_t began = shoal_now_ns(), cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID), datagrams = 0, bytes = 0;
  do {
    how = STREAM_RUNS;
    if (!stream_open(&stream, &config)) return 2;
    while (how == STREAM_RUNS) {
      turn();
      if (config.paced) platform_wait(timers_next_due_ns());
    }
    datagrams += stream.datagrams, bytes += stream.bytes;
  } while (how == STREAM_DONE && (double)(shoal_now_ns() - began) / 1e9 < seconds);
  double took = (double)(shoal_now_ns() - began) / 1e9, used = (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e9;
  printf("{\"end\":%d,\"datagrams\":%llu,\"payloadBytes\":%llu,\"frameBytes\":%llu,\"lost\":%llu,\"seconds\":%.6f,\"cpuSeconds\":%.6f,\"gbps\":%.3f}\n", how,
         (unsigned long long)datagrams, (unsigned long long)bytes, (unsigned long long)frame_bytes, (unsigned long long)lost, took, used, (double)frame_bytes * 8 / took / 1e9);
  return how == STREAM_DONE ? 0 : 1;
}
