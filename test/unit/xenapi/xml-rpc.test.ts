/** XML-RPC on the wire: what Python's xmlrpc.client and @vates/xml-rpc send, and what must come back, as text. */
import test from 'tape';
import { ShoalError } from '../../../src/model/errors.ts';
import { WireDouble, WireInt32, WireTime } from '../../../src/xenapi/wire.ts';
import { formatXmlFailure, formatXmlResult, formatXmlValue, parseXmlCall } from '../../../src/xenapi/xml-rpc.ts';

// Recorded from xmlrpc.client.dumps of Python 3, allow_none=True.
const fromPython = `<?xml version='1.0'?>
<methodCall>
<methodName>VM.create</methodName>
<params>
<param>
<value><string>OpaqueRef:1</string></value>
</param>
<param>
<value><struct>
<member>
<name>name_label</name>
<value><string>a &amp; b &lt;c&gt;</string></value>
</member>
<member>
<name>tags</name>
<value><array><data>
<value><string>x</string></value>
<value><int>-7</int></value>
</data></array></value>
</member>
<member>
<name>empty</name>
<value><array><data>
</data></array></value>
</member>
<member>
<name>on</name>
<value><boolean>1</boolean></value>
</member>
<member>
<name>half</name>
<value><double>0.5</double></value>
</member>
<member>
<name>nothing</name>
<value><nil/></value></member>
</struct></value>
</param>
</params>
</methodCall>
`;

test('a call as Python writes it', (t) => {
  t.deepEqual(parseXmlCall(fromPython), {
    method: 'VM.create',
    params: ['OpaqueRef:1', { name_label: 'a & b <c>', tags: ['x', -7], empty: [], on: true, half: 0.5, nothing: null }],
  });
  t.end();
});

test('calls as others write them', (t) => {
  const call = (value: string) =>
    parseXmlCall(`<methodCall><methodName>m</methodName><params><param>${value}</param></params></methodCall>`).params[0];
  t.equal(call('<value>plain &#233;&#x1F41F;</value>'), 'plain é🐟', 'a value without a type is a string');
  t.equal(call('<value> two  spaces </value>'), ' two  spaces ', 'with its white space');
  t.equal(call('<value/>'), '', 'empty');
  t.equal(call('<value></value>'), '', 'empty');
  t.equal(call('<value><string/></value>'), '', 'empty');
  t.equal(call('<value><i4>12</i4></value>'), 12);
  t.equal(call('<value><dateTime.iso8601>20260101T00:00:00Z</dateTime.iso8601></value>'), '20260101T00:00:00Z');
  t.deepEqual(call('<value><struct/></value>'), {}, 'empty struct');
  t.deepEqual(call('<!-- c --><value><array><data/></array></value>'), [], 'empty list');
  t.deepEqual(
    Object.keys(call('<value><struct><member><name>__proto__</name><value>x</value></member></struct></value>') as object),
    ['__proto__'],
    'no name is special',
  );
  t.deepEqual(parseXmlCall('<methodCall><methodName>system.listMethods</methodName></methodCall>'), {
    method: 'system.listMethods',
    params: [],
  });
  t.deepEqual(parseXmlCall('<methodCall><methodName>x</methodName><params/></methodCall>').params, []);
  t.end();
});

test('what is no call is refused', (t) => {
  const deep = '<value><array><data>'.repeat(40);
  const texts = [
    '',
    '<',
    'hello',
    '<methodCall>',
    '<a/>',
    '<methodCall><methodName>m</methodName></methodCall>x',
    '<methodCall><methodName>m</methodName><params><param><value><int>1.5</int></value></param></params></methodCall>',
    '<methodCall><methodName>m</methodName><params><param><value><int></int></value></param></params></methodCall>',
    '<methodCall><methodName>m</methodName><params><param><value><boolean>yes</boolean></value></param></params></methodCall>',
    '<methodCall><methodName>m</methodName><params><param><value><script>1</script></value></param></params></methodCall>',
    '<methodCall><methodName>m</methodName><params><param><value>a<string>b</string></value></param></params></methodCall>',
    '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><methodCall><methodName>&e;</methodName></methodCall>',
    '<methodCall><methodName>&unknown;</methodName></methodCall>',
    '<methodCall><methodName>&#x110000;</methodName></methodCall>',
    '<methodCall><methodName a="b">m</methodName></methodCall>',
    `<methodCall><methodName>m</methodName><params><param>${deep}`,
  ];
  for (const text of texts) {
    try {
      parseXmlCall(text);
      t.fail(`taken: ${text.slice(0, 60)}`);
    } catch (error) {
      t.equal((error as ShoalError).code, 'REQUEST_MALFORMED', text.slice(0, 60));
    }
  }
  t.end();
});

test('the text of every prefix of a call is refused, never anything else', (t) => {
  let wrong = 0;
  for (let n = 0; n < fromPython.trimEnd().length; n++) {
    try {
      parseXmlCall(fromPython.slice(0, n));
      wrong++;
    } catch (error) {
      if (!(error instanceof ShoalError)) wrong++;
    }
  }
  t.equal(wrong, 0);
  t.end();
});

test('answers', (t) => {
  const values: [unknown, string][] = [
    ['a<b>&"c\'\r\n', 'a&lt;b&gt;&amp;"c\'&#13;\n'],
    [4294967296, '4294967296'],
    [true, '<boolean>1</boolean>'],
    [new WireTime(Date.UTC(2026, 0, 2, 3, 4, 5)), '<dateTime.iso8601>20260102T03:04:05Z</dateTime.iso8601>'],
    [new WireDouble(1), '<double>1</double>'],
    [new WireInt32(7), '<i4>7</i4>'],
    [['x', []], '<array><data><value>x</value><value><array><data></data></array></value></data></array>'],
    [
      { a: '1', 'b<': {} },
      '<struct><member><name>a</name><value>1</value></member><member><name>b&lt;</name><value><struct></struct></value></member></struct>',
    ],
    [undefined, ''],
  ];
  for (const [value, text] of values) t.equal(formatXmlValue(value), `<value>${text}</value>`);
  t.equal(
    [...formatXmlResult('x')].join(''),
    '<?xml version="1.0"?><methodResponse><params><param><value><struct><member><name>Status</name><value>Success</value></member>' +
      '<member><name>Value</name><value>x</value></member></struct></value></param></params></methodResponse>',
  );
  t.equal(
    formatXmlFailure(['HANDLE_INVALID', 'VM', 'x']),
    '<?xml version="1.0"?><methodResponse><params><param><value><struct><member><name>Status</name><value>Failure</value></member>' +
      '<member><name>ErrorDescription</name><value><array><data><value>HANDLE_INVALID</value><value>VM</value><value>x</value></data></array></value>' +
      '</member></struct></value></param></params></methodResponse>',
  );
  t.end();
});
