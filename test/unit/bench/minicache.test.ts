/** What `minicache` makes of what other programs print. */
import test from 'tape';
import { countRequired } from '../../../bench/minicache/conformance.ts';
import { readWrk } from '../../../bench/minicache/speed.ts';

test('minicache: wrk\'s report, errors of every kind counted', (t) => {
  const report = '  12345 requests in 3.00s, 9.00MB read\nRequests/sec:   4115.25\nTransfer/sec:      3.00MB\n';
  t.deepEqual(readWrk(report), { requestsPerS: 4115.25, errors: 0 });
  const bad = `  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n${report}`;
  t.equal(readWrk(bad).errors, 15);
  t.ok(Number.isNaN(readWrk('nothing').requestsPerS), 'no report is no number');
  t.end();
});

test('minicache: required tests are those without another kind, and only true is passed', (t) => {
  const suites = [{ tests: [{ id: 'a' }, { id: 'b', kind: 'required' }, { id: 'c', kind: 'optimal' }, { id: 'd', browser_only: true }, { id: 'e' }] }];
  t.deepEqual(countRequired(suites, { a: true, b: ['Assertion', 'no'], c: true }), { passed: 1, required: 3, failed: ['b', 'e'] });
  t.end();
});
