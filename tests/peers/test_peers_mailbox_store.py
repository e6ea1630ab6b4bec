from ptproxy.state import StateFolder
from ptproxy.peers.mailbox_store import *
from ptproxy.peers.mailbox_delivery import *
import os
def test_x(tmp_path):
    with StateFolder(tmp_path/"s") as f:
        st=MailboxStore(f.database(NAME,SCHEMA),StoreLimits())
        now=1e9
        p=DeliveryPass.make(os.urandom,now,seconds=86400*30,count=5)
        [b]=st.run([lambda s:s.make_box(b"k"*32,now)])
        print(st.run([lambda s:s.grant(b,p.grants(),now),lambda s:s.grant(b,p.grants(),now),lambda s:s.state(b)]))
        t=p.token(0); e=t.seal(b"hi",os.urandom); m=message_id_of(t.id,e)
        print(st.run([lambda s:s.deposit(t.id,m,e,now)]*2+[lambda s:s.waiting(b,(),3,100)]))
        e2=t.seal(b"hi",os.urandom); m2=message_id_of(t.id,e2)
        print(st.run([lambda s:s.deposit(t.id,m2,e2,now)]))
        print(st.run([lambda s:s.taken(b,[m]), lambda s:s.state(b)]))
        print(st.run([lambda s:s.publish(b,b"bundle",[b"1",b"2"]), lambda s:s.state(b)]))
        print(os.listdir(tmp_path/"s"))
        assert 0
