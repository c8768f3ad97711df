/* See memory_write.h. */
#include "memory_write.h"

#include <stdlib.h>
#include <string.h>

#include "memory_stream.h"

struct memory_writer {
  struct builder *builder;
  uint16_t domid;
  struct template template; /* pages 0: none */
  struct target_memory memory;
  uint64_t *mfns;   /* of all frames, then shared_info, then the grants */
  uint64_t *frames; /* of one piece, or of the end */
  int finished;
};

static uint64_t own_pages(const struct memory_writer *writer) { return writer->memory.pages - writer->memory.shared_pages; }

static int take_memory(struct memory_writer *writer, struct failure *failure)
{
  struct control *control = builder_control(writer->builder);
  uint64_t first = writer->memory.shared_pages, own = own_pages(writer);
  struct domain_facts facts;
  int status = control_domain(control, writer->domid, &facts, failure);

  if (status) return status < 0 ? -1 : failed_with(failure, "memory", ESRCH);
  if (facts.total_pages != 0) return failed_with(failure, "memory", EEXIST);
  memset(writer->mfns, 0xff, first * sizeof *writer->mfns);
  if (control_populate(control, writer->domid, first, own, writer->mfns + first, failure)) return -1;
  writer->mfns[writer->memory.pages] = facts.shared_info_mfn;
  if (control_grant_frame(control, writer->domid, &writer->mfns[writer->memory.pages + 1], failure)) return -1;
  /* Now, while a guest that comes from elsewhere still runs there, rather than at the end. */
  return control_clear_pages(control, writer->domid, writer->mfns + first, own, failure);
}

struct memory_writer *memory_writer_open(struct builder *builder, uint16_t domid, uint64_t pages, const struct template *template,
                                         struct failure *failure)
{
  struct memory_writer *writer = calloc(1, sizeof *writer);
  uint64_t settled = list_pages_of(pages) + SETTLED_FRAMES_MAX + 2;

  if (!writer) {
    failed(failure, "calloc");
    return NULL;
  }
  *writer = (struct memory_writer){ .builder = builder, .domid = domid };
  if (template) writer->template = *template;
  writer->memory.pages = pages;
  writer->memory.shared_pages = writer->template.pages;
  writer->mfns = calloc(pages + 2, sizeof *writer->mfns);
  writer->frames = calloc(settled > PIECE_FRAMES_MAX ? settled : PIECE_FRAMES_MAX, sizeof *writer->frames);
  writer->memory.mfns = writer->mfns;
  writer->memory.at = calloc(pages + 2, sizeof *writer->memory.at);
  writer->memory.written = calloc(pages, 1);
  if (!writer->mfns || !writer->frames || !writer->memory.at || !writer->memory.written) failed(failure, "calloc");
  else if (pages <= writer->template.pages) failed_with(failure, "memory", EINVAL);
  else if (take_memory(writer, failure) == 0) return writer;
  memory_writer_free(writer);
  return NULL;
}

void memory_writer_free(struct memory_writer *writer)
{
  if (!writer) return;
  free(writer->mfns);
  free(writer->frames);
  free(writer->memory.at);
  free(writer->memory.written);
  free(writer);
}

/* writer->frames, `count` of them, are there until unmap_frames. Only while they are written: no page table may be mapped writable when it is pinned, and
 * what is mapped for longer costs its unmapping while the guest stands still. */
static uint8_t *map_frames(struct memory_writer *writer, size_t count, struct failure *failure)
{
  uint64_t *mfns = calloc(count, sizeof *mfns);
  uint8_t *base;

  if (!mfns) {
    failed(failure, "calloc");
    return NULL;
  }
  for (size_t i = 0; i < count; i++) mfns[i] = writer->mfns[writer->frames[i]];
  base = builder_map(writer->builder, writer->domid, count, mfns, 1, failure);
  free(mfns);
  for (size_t i = 0; base && i < count; i++) writer->memory.at[writer->frames[i]] = base + i * PAGE_BYTES;
  return base;
}

static int unmap_frames(struct memory_writer *writer, uint8_t *base, size_t count, struct failure *failure)
{
  for (size_t i = 0; i < count; i++) writer->memory.at[writer->frames[i]] = NULL;
  return builder_unmap(writer->builder, base, count) ? failed(failure, "xenforeignmemory_unmap") : 0;
}

int memory_writer_piece(struct memory_writer *writer, const uint8_t *piece, size_t length, struct failure *failure)
{
  uint8_t *base;
  size_t count;
  int status;

  if (writer->finished || length > PIECE_BYTES_MAX || stream_frames(&writer->memory, piece, length, writer->frames, &count))
    return failed_with(failure, "memory", EINVAL);
  if (count == 0) return 0;
  base = map_frames(writer, count, failure);
  if (!base) return -1;
  status = stream_apply(&writer->memory, piece, length);
  if (unmap_frames(writer, base, count, failure)) return -1;
  return status ? failed_with(failure, "memory", EINVAL) : 0;
}

/* What the guest finds changed when it wakes up. */
static int settle(struct memory_writer *writer, const struct guest_state *state, const struct naming *naming, const struct build_result *result,
                  struct failure *failure)
{
  size_t count = stream_settled(state, writer->frames);
  uint8_t *base;

  writer->frames[count++] = writer->memory.pages;
  writer->frames[count++] = writer->memory.pages + 1;
  base = map_frames(writer, count, failure);
  if (!base) return -1;
  stream_settle(&writer->memory, state, writer->mfns[writer->memory.pages], result);
  if (naming) builder_write_name(writer->memory.at[state->start_info], naming);
  return unmap_frames(writer, base, count, failure);
}

/* Hooks the template's pages in where the page tables have left room for them. */
static int map_template(struct memory_writer *writer, const uint8_t *places, struct failure *failure)
{
  struct table_write writes[TEMPLATE_PAGES_MAX];

  for (uint64_t i = 0; i < writer->template.pages; i++) {
    struct shared_place place;

    memcpy(&place, places + i * sizeof place, sizeof place);
    writes[i] = (struct table_write){ (writer->mfns[place.table] << 12) + place.slot * sizeof(uint64_t),
                                      layout_read_only(writer->template.mfns[i]) };
  }
  if (writer->template.pages == 0) return 0;
  return control_map_others(builder_control(writer->builder), writer->domid, writer->template.domid, writes, writer->template.pages, failure);
}

int memory_writer_finish(struct memory_writer *writer, const uint8_t *state, size_t length, unsigned vif_count, const struct naming *naming,
                         struct build_result *result, struct failure *failure)
{
  struct control *control = builder_control(writer->builder);
  const uint64_t *mfns = writer->mfns;
  struct parsed_state parsed;
  const struct guest_state *fixed = &parsed.fixed;
  struct cpu_state *cpu;
  int done = -1;

  memset(result, 0, sizeof *result);
  if (writer->finished || state_parse(state, length, writer->memory.pages, writer->memory.shared_pages, vif_count, &parsed))
    return failed_with(failure, "memory", EINVAL);
  cpu = control_cpu_from(parsed.cpu, fixed->cpu_bytes, failure);
  if (!cpu) return -1;
  result->console_mfn = mfns[fixed->console];
  result->start_info_mfn = mfns[fixed->start_info];
  if (fixed->store != NO_FRAME) result->store_mfn = mfns[fixed->store];
  for (unsigned i = 0; i < fixed->wiring.vif_count && fixed->store == NO_FRAME; i++) {
    result->vifs[i].tx_mfn = mfns[fixed->wiring.vifs[i].tx_frame];
    result->vifs[i].rx_mfn = mfns[fixed->wiring.vifs[i].rx_frame];
  }
  writer->finished = 1;
  if (settle(writer, fixed, naming, result, failure) == 0 && control_pin_l4(control, writer->domid, mfns[fixed->top_table], failure) == 0 &&
      map_template(writer, parsed.places, failure) == 0)
    done = control_write_cpu(control, writer->domid, cpu, mfns[fixed->top_table], result->start_info_mfn, failure);
  free(cpu);
  return done;
}
